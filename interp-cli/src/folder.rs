//! Output folders of commands that write all their files at once: which ones may be written, and what goes where.

use std::fs;
use std::path::{Path, PathBuf};

use interp_core::export::write_atomic;
use interp_core::plot::{self, Maps};
use interp_core::{Error, Result};

/// A folder that this command may write.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Errs unless the folder is new or empty: what is there already must neither be lost nor pass for a part of this
    /// result. Makes nothing.
    pub fn check(path: &Path) -> Result<Self> {
        if path.is_file() || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
            let hint = Some("give a new or an empty folder, or remove this one".into());
            return Err(Error::File { path: path.into(), problem: "not empty".into(), hint });
        }
        Ok(Self { path: path.into() })
    }

    /// Makes the folder.
    pub fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.path).map_err(Error::io("create", &self.path))
    }

    /// Writes one file, whole or not at all. A name may begin with a folder.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        write_atomic(&path, bytes)
    }

    /// Draws heat maps as `NAME.svg` and `NAME.png`.
    pub fn draw(&self, name: &str, maps: &Maps) -> Result<()> {
        self.put(&format!("{name}.svg"), plot::maps_svg(maps)?.as_bytes())?;
        self.put(&format!("{name}.png"), &plot::maps_png(maps)?)
    }
}
