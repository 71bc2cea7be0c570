//! SHA-256 of weight files, for the record of a run: from the hub cache's file names, from a small cache of earlier
//! results, or computed, beside the run rather than before it. Knows nothing of what the files hold.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Read at a time: large enough for full disk speed, small enough to stay in a processor's cache.
const BUFFER: usize = 1 << 20;

/// A file's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHash {
    /// The file as named by the caller.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// Hashes being computed in the background. Dropping it stops the work.
#[derive(Debug)]
pub struct Hashes {
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<Result<Vec<FileHash>>>>,
}

impl Hashes {
    /// Starts on `paths`, remembering results in `$XDG_CACHE_HOME/interp` or `~/.cache/interp`.
    pub fn start(paths: Vec<PathBuf>) -> Self {
        Self::start_in(paths, cache_dir())
    }

    /// Starts on `paths`, remembering results in `cache`, or nowhere.
    pub fn start_in(paths: Vec<PathBuf>, cache: Option<PathBuf>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let worker = std::thread::spawn(move || {
            let stopped = || stopped.load(Ordering::Relaxed);
            let hashes = paths.iter().map(|path| file_hash(path, cache.as_deref(), stopped).transpose());
            hashes.flatten().collect()
        });
        Self { stop, worker: Some(worker) }
    }

    /// Waits for all hashes, in the order of the paths. Errs when a file cannot be read.
    pub fn wait(mut self) -> Result<Vec<FileHash>> {
        let worker = self.worker.take().expect("taken only here");
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Hashes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The hash of one file, from the cheapest place that has it; `None` when stopped.
fn file_hash(path: &Path, cache: Option<&Path>, stopped: impl Fn() -> bool) -> Result<Option<FileHash>> {
    hash_or_none(path, cache, stopped).map_err(Error::io("read", path))
}

fn hash_or_none(path: &Path, cache: Option<&Path>, stopped: impl Fn() -> bool) -> io::Result<Option<FileHash>> {
    let real = path.canonicalize()?;
    let metadata = real.metadata()?;
    let found = |sha256: &str| Some(FileHash { path: path.into(), bytes: metadata.len(), sha256: sha256.into() });
    if let Some(sha256) = blob_sha256(&real) {
        return Ok(found(sha256));
    }
    let note = cache.map(|cache| cache.join("sha256").join(key(&real, &metadata)));
    if let Some(sha256) = note.as_deref().and_then(remembered) {
        return Ok(found(&sha256));
    }
    let Some(sha256) = sha256(&real, stopped)? else { return Ok(None) };
    if let Some(note) = note {
        // An unwritable cache costs time on the next run, nothing else.
        let _ = remember(&note, &sha256);
    }
    Ok(found(&sha256))
}

/// The SHA-256 that names a file of the hub's cache: large files lie there as `blobs/SHA256`, small ones by another hash.
pub(crate) fn blob_sha256(real: &Path) -> Option<&str> {
    let name = real.file_name()?.to_str()?;
    let in_blobs = real.parent()?.file_name()? == "blobs";
    (in_blobs && is_sha256(name)).then_some(name)
}

/// Computes a file's hash, asking `stopped` now and then whether it is still wanted; `None` when not.
pub(crate) fn sha256(path: &Path, stopped: impl Fn() -> bool) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; BUFFER];
    let mut hasher = Sha256::new();
    while !stopped() {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(hex(&hasher.finalize()))),
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(None)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file name that changes when the file does: path, size, time of change and inode, hashed.
fn key(real: &Path, metadata: &Metadata) -> String {
    let mut hasher = Sha256::new();
    hasher.update(real.as_os_str().as_encoded_bytes());
    for number in [metadata.len(), metadata.mtime() as u64, metadata.mtime_nsec() as u64, metadata.ino()] {
        hasher.update(number.to_le_bytes());
    }
    hex(&hasher.finalize())
}

fn remembered(note: &Path) -> Option<String> {
    std::fs::read_to_string(note).ok().filter(|text| is_sha256(text))
}

/// Written whole or not at all, since runs share the folder.
fn remember(note: &Path, sha256: &str) -> io::Result<()> {
    let folder = note.parent().expect("a note lies in a folder");
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(sha256.as_bytes())?;
    file.persist(note)?;
    Ok(())
}

fn cache_dir() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(home.join("interp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // SHA-256 of "abc", from FIPS 180-2.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn hash(path: &Path, cache: Option<&Path>) -> String {
        let hashes = Hashes::start_in(vec![path.into()], cache.map(Path::to_owned)).wait().unwrap();
        assert_eq!((hashes.len(), hashes[0].path.as_path()), (1, path));
        hashes[0].sha256.clone()
    }

    fn only_note(cache: &Path) -> PathBuf {
        let notes: Vec<_> = std::fs::read_dir(cache.join("sha256")).unwrap().flatten().collect();
        assert_eq!(notes.len(), 1);
        notes[0].path()
    }

    #[test]
    fn computed_once_and_again_when_the_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (file, cache) = (dir.path().join("f"), dir.path().join("cache"));
        std::fs::write(&file, "abc").unwrap();
        assert_eq!(hash(&file, Some(&cache)), ABC);
        // The note is believed while the file is the same …
        let note = only_note(&cache);
        std::fs::write(&note, "0".repeat(64)).unwrap();
        assert_eq!(hash(&file, Some(&cache)), "0".repeat(64));
        // … a broken note is not, and neither is one of an older state of the file.
        std::fs::write(&note, "0123").unwrap();
        assert_eq!(hash(&file, Some(&cache)), ABC);
        std::fs::write(&file, "abcd").unwrap();
        assert_ne!(hash(&file, Some(&cache)), ABC);
    }

    #[test]
    fn a_blob_of_the_hub_cache_is_known_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs");
        std::fs::create_dir(&blobs).unwrap();
        let (name, small) = ("1".repeat(64), "2".repeat(40));
        for blob in [&name, &small] {
            std::fs::write(blobs.join(blob), "abc").unwrap();
        }
        let link = dir.path().join("model.safetensors");
        std::os::unix::fs::symlink(blobs.join(&name), &link).unwrap();
        assert_eq!(hash(&link, None), name);
        assert_eq!(hash(&blobs.join(&small), None), ABC);
    }

    #[test]
    fn an_unwritable_cache_is_no_error_but_an_unreadable_file_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "abc").unwrap();
        // A file where the cache folder should be cannot be written even by root.
        assert_eq!(hash(&file, Some(&file)), ABC);
        let missing = dir.path().join("missing");
        let error = Hashes::start_in(vec![missing.clone()], None).wait().unwrap_err();
        let expected = format!("cannot read {}: No such file or directory (os error 2)", missing.display());
        assert_eq!(error.to_string(), expected);
    }
}
