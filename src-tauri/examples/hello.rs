//! A window with two words in it, or with `--field` an empty field that has the focus: what `tests/benches/app.sh` measures
//! the app against. It has the app's own build of Tauri, and what else the app depends on is not linked.

use tauri::{WebviewUrl, WebviewWindowBuilder};

fn main() -> tauri::Result<()> {
    let told = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    let (hidden, page) = (told("--hidden"), if told("--field") { "field.html" } else { "index.html" });
    tauri::Builder::default()
        .setup(move |app| {
            WebviewWindowBuilder::new(app, "main", WebviewUrl::App(page.into()))
                .inner_size(400.0, 600.0)
                .visible(!hidden)
                .build()?;
            Ok(())
        })
        .run(tauri::generate_context!("../tests/benches/hello/tauri.conf.json"))
}
