//! What was installed with the program, by its package or from an archive.

use std::path::{Path, PathBuf};

/// The files that were installed with a program in `PREFIX/bin`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Installation {
    /// ONNX Runtime and the models: `PREFIX/lib/rollcall`.
    pub assets: PathBuf,
    /// The settings: `PREFIX/etc/rollcall/rollcall.toml`, but below `/etc` if the prefix is `/usr`, as the Filesystem
    /// Hierarchy Standard has it.
    pub settings: PathBuf,
}

impl Installation {
    /// Returns what was installed with a program; `None` if its prefix has no `lib/rollcall`, as in a checkout.
    pub fn of(program: &Path) -> Option<Self> {
        let prefix = program.parent()?.parent()?;
        let assets = prefix.join("lib/rollcall");
        let etc = if prefix == Path::new("/usr") { "/etc".into() } else { prefix.join("etc") };
        assets.is_dir().then(|| Self { assets, settings: etc.join("rollcall/rollcall.toml") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_program_is_told_from_one_that_was_built_by_the_folder_of_its_models() {
        let prefix = tempfile::tempdir().expect("a temporary folder");
        let program = prefix.path().join("bin/rollcall");
        assert_eq!(Installation::of(&program), None);
        std::fs::create_dir_all(prefix.path().join("lib/rollcall")).expect("writable");
        let installation = Installation::of(&program).expect("installed");
        assert_eq!(installation.assets, prefix.path().join("lib/rollcall"));
        assert_eq!(installation.settings, prefix.path().join("etc/rollcall/rollcall.toml"));
    }
}
