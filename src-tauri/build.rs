//! Reads `tauri.conf.json` and checks the capabilities.

fn main() {
    tauri_build::build();
}
