//! MLX's Metal kernels inside a macOS app.

use std::path::{Path, PathBuf};

use mlx_rs::metal::set_metallib_path;

use crate::error::Result;

/// Tells MLX where its kernels are when the program runs from an app bundle. By itself MLX looks beside the program,
/// in `Contents/MacOS`, where code signing takes every file for code; so they lie in `Contents/Resources`. Anywhere else
/// this does nothing, and MLX takes the kernels it was built with. Call it before anything else that uses MLX.
///
/// # Errors
/// When MLX refuses the path.
pub fn use_bundled_kernels() -> Result<()> {
    // The command line may be called through a link from outside the bundle.
    let program = std::env::current_exe().and_then(std::fs::canonicalize);
    if let Some(kernels) = program.ok().and_then(|program| bundled(&program)) {
        set_metallib_path(kernels.to_string_lossy())?;
    }
    Ok(())
}

/// The kernels of the bundle that a program lies in.
fn bundled(program: &Path) -> Option<PathBuf> {
    let contents = program.parent().filter(|folder| folder.ends_with("Contents/MacOS"))?.parent()?;
    let kernels = contents.join("Resources/mlx.metallib");
    kernels.is_file().then_some(kernels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_those_of_the_bundle_around_the_program() {
        let folder = tempfile::tempdir().expect("a folder");
        let contents = folder.path().join("MoBiLE.app/Contents");
        let kernels = contents.join("Resources/mlx.metallib");
        for name in ["mobile-app", "mobile"] {
            assert_eq!(bundled(&contents.join("MacOS").join(name)), None);
        }
        std::fs::create_dir_all(contents.join("Resources")).expect("a folder");
        std::fs::write(&kernels, b"MTLB").expect("written");
        for name in ["mobile-app", "mobile"] {
            assert_eq!(bundled(&contents.join("MacOS").join(name)), Some(kernels.clone()));
        }
        assert_eq!(bundled(&contents.join("bin/mobile")), None);
    }
}
