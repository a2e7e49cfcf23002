//! A window with two words in it: what `tests/benches/app.sh` measures the app against. It has the app's own build of
//! Tauri, and what else the app depends on is not linked.

use tauri::{WebviewUrl, WebviewWindowBuilder};

fn main() -> tauri::Result<()> {
    let hidden = std::env::args().any(|argument| argument == "--hidden");
    tauri::Builder::default()
        .setup(move |app| {
            let page = WebviewUrl::App("index.html".into());
            WebviewWindowBuilder::new(app, "main", page).inner_size(400.0, 600.0).visible(!hidden).build()?;
            Ok(())
        })
        .run(tauri::generate_context!("../tests/benches/hello/tauri.conf.json"))
}
