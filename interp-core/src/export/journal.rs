//! The record of a running sweep: one checksummed entry per finished trial, appended. Knows nothing of statistics or figures.
//!
//! An entry is `length: u32 | payload | first 8 bytes of the payload's sha256`, the payload `header length: u32 | header JSON |
//! numbers`; all little-endian. Numbers are raw so that a resumed run ends in the same bytes as one that was never stopped.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// One finished trial: either its numbers or the reason why it has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Index of the trial in the trial file.
    pub index: usize,
    /// Numbers, or why the trial was refused.
    pub outcome: std::result::Result<Numbers, String>,
    /// What the engine wants to find again after a resume, e.g. the noise measured with this trial.
    pub note: Option<serde_json::Value>,
}

/// Numbers of one trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    /// `[metric]`, unedited base run.
    pub clean: Vec<f64>,
    /// `[metric]`, unedited source run.
    pub source: Option<Vec<f64>>,
    /// `[metric, cell]`.
    pub cells: Vec<f32>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    index: usize,
    reason: Option<String>,
    note: Option<serde_json::Value>,
    clean: usize,
    source: usize,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    synced: Instant,
}

/// How much work a power cut may cost. A killed process loses nothing: what was written is the kernel's.
const SYNC_EVERY: Duration = Duration::from_secs(1);

impl Journal {
    /// Opens or creates the journal and returns it with what it holds. A torn last entry is cut off.
    pub fn open(path: &Path) -> Result<(Self, Vec<Entry>)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(Error::io("write", path))?;
        let mut journal = Self { path: path.into(), file, length: 0, synced: Instant::now() };
        let (entries, length) = journal.scan()?;
        journal.length = length;
        journal.file.set_len(length).map_err(Error::io("write", path))?;
        Ok((journal, entries))
    }

    /// Appends one entry. On error the journal is cut back to what it held before.
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        let payload = encode(entry);
        let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(&Sha256::digest(&payload)[..8]);
        let mut write = || {
            self.file.seek(SeekFrom::Start(self.length))?;
            self.file.write_all(&bytes)?;
            if self.synced.elapsed() > SYNC_EVERY {
                self.file.sync_data()?;
                self.synced = Instant::now();
            }
            Ok(())
        };
        if let Err(source) = write() {
            // If this fails too, the checksum still tells the torn entry on the next open.
            let _ = self.file.set_len(self.length);
            return Err(Error::Io { action: "write", path: self.path.clone(), source });
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Everything the journal holds, in the order written.
    pub fn entries(&mut self) -> Result<Vec<Entry>> {
        Ok(self.scan()?.0)
    }

    fn scan(&mut self) -> Result<(Vec<Entry>, u64)> {
        let mut bytes = Vec::new();
        let mut read = || {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.read_to_end(&mut bytes)
        };
        read().map_err(Error::io("read", &self.path))?;
        let (mut entries, mut rest) = (Vec::new(), bytes.as_slice());
        while let Some((entry, after)) = decode(rest) {
            entries.push(entry);
            rest = after;
        }
        Ok((entries, (bytes.len() - rest.len()) as u64))
    }
}

fn encode(entry: &Entry) -> Vec<u8> {
    let numbers = entry.outcome.as_ref().ok();
    let header = Header {
        index: entry.index,
        reason: entry.outcome.as_ref().err().cloned(),
        note: entry.note.clone(),
        clean: numbers.map_or(0, |n| n.clean.len()),
        source: numbers.and_then(|n| n.source.as_ref()).map_or(0, Vec::len),
    };
    let header = serde_json::to_vec(&header).expect("a header is plain JSON");
    let mut payload = (header.len() as u32).to_le_bytes().to_vec();
    payload.extend_from_slice(&header);
    if let Some(Numbers { clean, source, cells }) = numbers {
        clean.iter().chain(source.iter().flatten()).for_each(|x| payload.extend_from_slice(&x.to_le_bytes()));
        cells.iter().for_each(|x| payload.extend_from_slice(&x.to_le_bytes()));
    }
    payload
}

/// The first entry of `bytes` and what follows it; `None` at the end or at a torn entry.
fn decode(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    if Sha256::digest(payload)[..8] != sum[..] {
        return None;
    }
    let (length, body) = payload.split_first_chunk::<4>()?;
    let (header, numbers) = body.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let header: Header = serde_json::from_slice(header).ok()?;
    let (clean, numbers) = numbers.split_at_checked(8 * header.clean)?;
    let (source, cells) = numbers.split_at_checked(8 * header.source)?;
    let wide = |bytes: &[u8]| bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect::<Vec<f64>>();
    let outcome = match header.reason {
        Some(reason) => Err(reason),
        None => Ok(Numbers {
            clean: wide(clean),
            source: (header.source > 0).then(|| wide(source)),
            cells: cells.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        }),
    };
    Some((Entry { index: header.index, outcome, note: header.note }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_cut_anywhere_keeps_every_whole_entry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trials.bin");
        let numbers = Numbers { clean: vec![0.1, -0.0], source: Some(vec![1e-300, 2.0]), cells: vec![1.5, -2.5] };
        let entries = [
            Entry { index: 3, outcome: Ok(numbers.clone()), note: Some(serde_json::json!({"repeat": 0.1})) },
            Entry { index: 0, outcome: Err("answer of two tokens".into()), note: None },
            Entry { index: 1, outcome: Ok(Numbers { source: None, ..numbers }), note: None },
        ];
        let (mut journal, _) = Journal::open(&path).unwrap();
        let mut ends = vec![0];
        for entry in &entries {
            journal.append(entry).unwrap();
            ends.push(journal.length as usize);
        }
        assert_eq!(journal.entries().unwrap(), entries);
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
            let (mut journal, found) = Journal::open(&path).unwrap();
            assert_eq!(found, entries[..whole], "cut at {cut}");
            journal.append(&entries[2]).unwrap();
            assert_eq!(journal.entries().unwrap().len(), whole + 1);
        }
        let mut bytes = bytes;
        let last = bytes.len() - 1;
        bytes[last - 9] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1, entries[..2], "a flipped bit is a torn entry");
    }
}
