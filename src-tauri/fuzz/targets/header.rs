//! A safetensors header: the bytes of a whole file, or only the JSON, which is given its length and as much data as it
//! asks for, within reason.
#![no_main]

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use mobile_fuzz::Folder;

thread_local!(static FOLDER: OnceCell<Folder> = const { OnceCell::new() });

/// Bytes that are put behind a header at most.
const MOST: u64 = 1 << 16;

fuzz_target!(|data: &[u8]| FOLDER.with(|folder| {
    let folder = folder.get_or_init(|| Folder::new("model-00001-of-00003.safetensors"));
    let Some(json) = data.strip_prefix(b"j") else { return folder.read(data) };
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(json);
    file.resize(file.len() + promised(json).min(MOST) as usize, 0);
    folder.read(&file);
}));

/// The largest end of a tensor that the header names.
fn promised(json: &[u8]) -> u64 {
    let Ok(serde_json::Value::Object(tensors)) = serde_json::from_slice(json) else { return 0 };
    tensors.values().filter_map(|tensor| tensor["data_offsets"][1].as_u64()).max().unwrap_or(0)
}
