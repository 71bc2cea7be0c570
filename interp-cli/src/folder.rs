//! Output folders that appear whole or not at all: files are written under another name beside the place, which is taken when all
//! are there. For commands that write at the end; a sweep, which resumes, keeps a journal instead.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use interp_core::export::write_atomic;
use interp_core::plot::{self, Maps};
use interp_core::{Error, Result};
use tempfile::TempDir;

/// A place that is free.
pub struct Folder {
    path: PathBuf,
}

/// A folder that is being written. Goes without a trace when it is dropped unfinished.
pub struct Partial {
    path: PathBuf,
    dir: TempDir,
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

    /// Begins to write. Called before the work is done, so that a place that cannot be written to costs none.
    pub fn begin(self) -> Result<Partial> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        // Whoever may read new folders may read this one.
        let readable = Permissions::from_mode(0o777);
        let dir = tempfile::Builder::new().prefix(".interp-").permissions(readable).tempdir_in(parent);
        Ok(Partial { dir: dir.map_err(Error::io("create", parent))?, path: self.path })
    }
}

impl Partial {
    /// Where it is until it is finished.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes one file. A name may begin with a folder.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.dir().join(name);
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

    /// Takes its place.
    pub fn finish(self) -> Result<()> {
        fs::rename(self.dir(), &self.path).map_err(Error::io("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_there_when_it_is_finished_and_leaves_nothing_otherwise() {
        let temp = tempfile::tempdir().unwrap();
        let (out, n) = (temp.path().join("deep/out"), |path: &Path| fs::read_dir(path).unwrap().count());
        let partial = Folder::check(&out).unwrap().begin().unwrap();
        partial.put("a/b.txt", b"b").unwrap();
        assert!(!out.exists());
        drop(partial);
        assert_eq!(n(&temp.path().join("deep")), 0);

        fs::create_dir(&out).unwrap();
        let partial = Folder::check(&out).unwrap().begin().unwrap();
        partial.put("a/b.txt", b"b").unwrap();
        partial.finish().unwrap();
        assert_eq!((fs::read(out.join("a/b.txt")).unwrap(), n(&temp.path().join("deep"))), (b"b".to_vec(), 1));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&out), mode(&temp.path().join("deep")), "as readable as any other folder");
        assert!(Folder::check(&out).is_err());
    }
}
