//! Where the app keeps what it keeps.

use std::path::PathBuf;

use tauri::Manager as _;

/// Set to a folder, it holds everything the app writes. The command line reads the same variable.
const HOME: &str = "MOBILE_HOME";

/// The app's folder among those of other apps; the command line's too, so that both have the same models.
const NAME: &str = if cfg!(target_os = "macos") { "MoBiLE" } else { "mobile" };

/// The app's folders.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// Settings, conversations, keys, and the library's own files.
    pub(crate) data: PathBuf,
    pub(crate) logs: PathBuf,
    /// Where what comes with the app may lie: in its bundle, or where Cargo built it.
    pub(crate) resources: Vec<PathBuf>,
}

impl Home {
    pub(crate) fn find(app: &tauri::AppHandle) -> tauri::Result<Self> {
        let paths = app.path();
        let beside = std::env::current_exe()?.parent().map(PathBuf::from);
        let resources = [Some(paths.resource_dir()?), beside].into_iter().flatten().collect();
        Ok(match std::env::var_os(HOME).filter(|home| !home.is_empty()) {
            Some(home) => {
                let data = PathBuf::from(home);
                Self { logs: data.join("logs"), data, resources }
            }
            None => Self { data: paths.data_dir()?.join(NAME), logs: paths.app_log_dir()?, resources },
        })
    }
}
