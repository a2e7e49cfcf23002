//! `config.json`: JSON with the fields of a real one, or any bytes.
#![no_main]

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use mobile_fuzz::Folder;

thread_local!(static FOLDER: OnceCell<Folder> = const { OnceCell::new() });

fuzz_target!(|data: &[u8]| FOLDER.with(|folder| folder.get_or_init(|| Folder::new("config.json")).read(data)));
