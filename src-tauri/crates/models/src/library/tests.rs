use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/micro").join(name)
}

fn library() -> (tempfile::TempDir, Library) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let library = Library::with_cache(folder.path().join("data"), folder.path().join("hub"));
    (folder, library)
}

/// Lays a fixture out as huggingface_hub would have; gives the repository's folder.
fn cached(library: &Library, id: &str, name: &str) -> PathBuf {
    let root = library.cache.join(format!("models--{}", id.replace('/', "--")));
    let snapshot = root.join("snapshots").join(COMMIT);
    for folder in [&root.join("blobs"), &root.join("refs"), &snapshot] {
        fs::create_dir_all(folder).expect("a folder");
    }
    fs::write(root.join("refs/main"), COMMIT).expect("written");
    for entry in fs::read_dir(fixture(name)).expect("the fixture").flatten() {
        let name = entry.file_name();
        fs::copy(entry.path(), root.join("blobs").join(&name)).expect("copied");
        symlink(Path::new("../../blobs").join(&name), snapshot.join(&name)).expect("linked");
    }
    root
}

#[test]
fn the_cache_of_other_tools_is_listed() {
    let (_folder, library) = library();
    assert!(library.list().expect("an empty list").is_empty());
    cached(&library, "a/olmoe", "olmoe-sharded");
    let other = cached(&library, "b/llama", "olmoe-bias");
    fs::write(other.join("blobs/config.json"), r#"{"architectures":["LlamaForCausalLM"]}"#).expect("written");
    let list = library.list().expect("a list");
    assert_eq!(list.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["a/olmoe"]);
    assert!(list[0].is_ready() && list[0].shape().is_some_and(|s| s.experts == 8));
    assert!(list[0].bytes > 150_080);
    assert_eq!(library.resolve("a/olmoe").expect("ready"), list[0].path);
}

#[test]
fn a_partial_download_is_never_ready() {
    let (_folder, library) = library();
    let root = cached(&library, "a/olmoe", "olmoe-sharded");
    let blob = root.join("blobs/model-00003-of-00003.safetensors");
    fs::rename(&blob, root.join("blobs/x.incomplete")).expect("renamed");
    assert!(!library.info("a/olmoe").expect("known").is_ready());
    let error = library.resolve("a/olmoe").expect_err("incomplete").to_string();
    assert!(error.contains("(model-00003-of-00003.safetensors is missing)"), "{error}");
    assert!(error.contains("mobile pull a/olmoe"), "{error}");
}

#[test]
fn ids_and_paths_resolve() {
    let (_folder, library) = library();
    let path = fixture("mixtral-k1");
    assert_eq!(library.resolve(path.to_str().expect("UTF-8")).expect("a folder"), path);
    for unknown in ["a/b", "nonsense", "../../etc"] {
        let error = library.resolve(unknown).expect_err("not here");
        assert!(matches!(error, Error::NotHere(_) | Error::Id(_) | Error::File(_)), "{error}");
    }
}

#[test]
fn folders_are_imported_in_place_and_copied() {
    let (_folder, library) = library();
    let entry = library.import(&fixture("mixtral-k1"), None, Import::InPlace).expect("imported");
    assert_eq!((entry.id.as_str(), entry.origin, entry.is_ready()), ("local/mixtral-k1", Origin::InPlace, true));
    assert!(matches!(library.import(&fixture("mixtral-k1"), None, Import::InPlace), Err(Error::Exists(_))));
    assert!(matches!(library.info("local/mixtral"), Err(Error::NotImported(_))));
    let copy = library.import(&fixture("mixtral-k1"), Some("mine"), Import::Copy).expect("copied");
    assert_eq!((copy.id.as_str(), copy.origin, copy.is_ready()), ("local/mine", Origin::Copied, true));
    assert!(!copy.path.join("golden.json").exists(), "only what a model needs is copied");
    assert_eq!(library.list().expect("a list").len(), 2);
    assert_eq!(library.remove("local/mixtral-k1").expect("forgotten"), 0);
    assert!(fixture("mixtral-k1").exists());
    assert!(library.remove("local/mine").expect("removed") > 100_000);
    assert!(!copy.path.exists());
    assert!(library.list().expect("a list").is_empty());
}

#[test]
fn what_cannot_be_loaded_is_not_imported() {
    let (folder, library) = library();
    fs::write(folder.path().join("config.json"), r#"{"architectures":["LlamaForCausalLM"]}"#).expect("written");
    assert!(matches!(library.import(folder.path(), Some("x"), Import::Copy), Err(Error::Architecture { .. })));
    assert!(matches!(library.import(&fixture("mixtral-k1"), Some("../x"), Import::Copy), Err(Error::Name(_))));
    assert!(library.list().expect("a list").is_empty());
}

#[test]
fn a_damaged_state_is_set_aside() {
    let (_folder, library) = library();
    library.import(&fixture("mixtral-k1"), None, Import::InPlace).expect("imported");
    let path = library.data.join("models.json");
    let text = fs::read(&path).expect("the state");
    fs::write(&path, &text[..text.len() / 2]).expect("written");
    assert!(library.list().expect("an empty list").is_empty());
    assert_eq!(fs::read(library.data.join("models.json.damaged")).expect("kept"), text[..text.len() / 2]);
    library.import(&fixture("mixtral-k1"), None, Import::InPlace).expect("imported again");
}

#[test]
fn removing_waits_for_no_download() {
    let (_folder, library) = library();
    let root = cached(&library, "a/olmoe", "olmoe-sharded");
    let repository = Repository::new(&library.cache, &"a/olmoe".parse().expect("an id"));
    let lock = repository.try_lock("x").expect("lockable").expect("free");
    assert!(matches!(library.remove("a/olmoe"), Err(Error::Busy(_))));
    drop(lock);
    assert!(library.remove("a/olmoe").expect("removed") > 150_000);
    assert!(!root.exists());
    assert!(matches!(library.remove("a/olmoe"), Err(Error::NotHere(_))));
    assert!(!library.data.exists(), "nothing is written, as the disk may be full");
}

#[test]
fn what_has_gone_from_the_disk_can_be_removed_from_the_list() {
    let (_folder, library) = library();
    let copy = library.import(&fixture("mixtral-k1"), Some("mine"), Import::Copy).expect("copied");
    fs::remove_dir_all(copy.path).expect("removed");
    assert_eq!(library.remove("local/mine").expect("removed"), 0);
    assert!(library.list().expect("a list").is_empty());
}

#[test]
fn what_a_killed_copy_left_is_in_nobodys_way() {
    let (_folder, library) = library();
    let (begun, moved) = (library.data.join("local/.copy-1"), library.data.join("local/mine"));
    for folder in [&begun, &moved] {
        fs::create_dir_all(folder).expect("made");
        fs::write(folder.join("left"), "").expect("written");
    }
    let copy = library.import(&fixture("mixtral-k1"), Some("mine"), Import::Copy).expect("copied");
    assert!(copy.is_ready() && copy.path == moved && !moved.join("left").exists() && !begun.exists());
    assert!(matches!(library.import(&fixture("mixtral-k1"), Some("mine"), Import::Copy), Err(Error::Exists(_))));
    // A folder that is a model by another name is no leftover.
    fs::write(library.data.join("models.json"), r#"{"imported":[]}"#).expect("written");
    library.import(&moved, Some("other"), Import::InPlace).expect("imported");
    assert!(matches!(library.import(&fixture("mixtral-k1"), Some("mine"), Import::Copy), Err(Error::Exists(_))));
}

#[test]
fn arranged_copies_are_counted_and_go_with_their_model() {
    let (_folder, library) = library();
    let root = cached(&library, "a/olmoe", "olmoe-sharded");
    let snapshot = root.join("snapshots").join(COMMIT);
    let arrange = |folder: &Path, variant: &str, bytes: usize| {
        let target = library.streamed_folder(folder, variant).expect("a folder");
        fs::create_dir_all(&target).expect("made");
        fs::write(target.join("experts-000.bin"), vec![0; bytes]).expect("written");
        target
    };
    let first = arrange(&snapshot, "f32-as-stored", 1000);
    let config = fs::read_to_string(root.join("blobs/config.json")).expect("a config");
    fs::write(root.join("blobs/config.json"), config + "\n").expect("changed");
    let outdated = arrange(&snapshot, "f32-as-stored", 200);
    assert_ne!(first, outdated, "files that changed are arranged anew");
    let name = outdated.file_name().expect("a name").to_string_lossy().into_owned();
    let unfinished = outdated.with_file_name(format!(".{name}.partial"));
    fs::create_dir(&unfinished).expect("made");
    fs::write(unfinished.join("experts-000.bin"), [0; 30]).expect("written");
    let mine = library.import(&fixture("mixtral-k1"), Some("mine"), Import::InPlace).expect("imported");
    let other = arrange(&mine.path, "f32-as-stored", 4);

    let loose = arrange(&fixture("olmoe-bias"), "f32-as-stored", 7);
    let besides = library.arranged_besides(&library.list().expect("a list"));
    assert_eq!(besides, [Arranged { path: loose, bytes: 7 }]);

    let sizes = |id: &str| library.info(id).expect("here").arranged.iter().map(|a| a.bytes).sum::<u64>();
    assert_eq!((sizes("a/olmoe"), sizes("local/mine")), (1230, 4));
    let bytes = library.info("a/olmoe").expect("here").bytes;
    assert_eq!(library.remove("a/olmoe").expect("removed"), bytes + 1230);
    assert!(!first.exists() && !outdated.exists() && !unfinished.exists() && other.exists());
    assert_eq!(library.remove("local/mine").expect("forgotten"), 4);
    assert!(!other.exists() && fixture("mixtral-k1").exists());
}

#[test]
fn many_writers_lose_nothing() {
    let (_folder, library) = library();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let library = &library;
            scope.spawn(move || {
                library.import(&fixture("mixtral-k1"), Some(&format!("m{n}")), Import::InPlace).expect("imported")
            });
        }
    });
    assert_eq!(library.list().expect("a list").len(), 8);
}
