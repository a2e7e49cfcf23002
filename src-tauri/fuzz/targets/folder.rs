//! A sound checkpoint in memory-backed storage, one file of which the fuzzer writes.

use std::fs;
use std::path::Path;

/// The sound checkpoint.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/micro/olmoe-sharded");

/// A checkpoint of which one file changes.
pub struct Folder {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl Folder {
    /// A copy of the sound checkpoint; `name` is the file to change.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a temporary folder");
        for entry in fs::read_dir(FIXTURE).expect("the fixture").flatten() {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copied");
        }
        Self { folder, name }
    }

    /// Looks at the checkpoint with these bytes in the file, as the library and as the engine do.
    ///
    /// # Panics
    /// Where the file cannot be written, and wherever the readers do, which is what is looked for.
    pub fn read(&self, data: &[u8]) {
        fs::write(self.folder.path().join(self.name), data).expect("written");
        if let Ok(checkpoint) = mobile_models::inspect(self.folder.path()) {
            let room = mobile_models::Room { memory: 16 << 30, disk: 1 << 40 };
            let usage = mobile_models::Use { context: u64::MAX, sequences: 32, ..mobile_models::Use::default() };
            let fit = mobile_models::assess(&checkpoint.shape, &usage, &room, checkpoint.file_bytes);
            assert!(fit.streamed <= fit.resident);
        }
        let _ = mobile_engine::check(self.folder.path());
    }
}
