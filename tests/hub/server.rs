//! A model hub on the loopback interface, in a thread, that serves one repository and can misbehave on request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

pub const REPO: &str = "org/tiny";

/// How the next download of a large file goes wrong. The first entry of the list applies, and is then removed.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The connection closes after this many bytes of the body, fewer than its `Content-Length`.
    Cut(usize),
    /// As `Cut`, but without a `Content-Length` that would tell.
    Short(usize),
    /// The right number of wrong bytes.
    Wrong,
}

/// What the hub holds and how it answers.
#[derive(Default)]
pub struct World {
    /// Files of each commit.
    pub commits: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Branches and tags.
    pub refs: BTreeMap<String, String>,
    /// Answered, with an `X-Error-Code`, to every listing.
    pub refuse_listing: Option<(u16, &'static str)>,
    /// Answered to every request for a file.
    pub refuse_files: Option<u16>,
    pub faults: Vec<Fault>,
    /// `path range authorization` of every request so far.
    pub log: Vec<String>,
}

/// Stops with its test.
pub struct Server {
    pub endpoint: String,
    pub world: Arc<Mutex<World>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(world: World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (world, stop) = (Arc::new(Mutex::new(world)), Arc::new(AtomicBool::new(false)));
        let (shared, stopped, address) = (Arc::clone(&world), Arc::clone(&stop), endpoint.clone());
        let thread = std::thread::spawn(move || {
            // Bounded, so that a client gone wild ends the test rather than the machine.
            for stream in listener.incoming().take(500).flatten() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                // A client may close early; that is its business.
                let _ = answer(&stream, &shared, &address);
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Self { endpoint, world, stop, thread: Some(thread) }
    }

    /// Requests so far, and forgets them.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.world.lock().unwrap().log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.endpoint.trim_start_matches("http://"));
        let _ = self.thread.take().unwrap().join();
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(stream: &TcpStream, world: &Mutex<World>, endpoint: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let target = request.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let mut world = world.lock().unwrap();
    world.log.push(format!("{path} {} {}", header("range"), header("authorization")).trim_end().to_owned());

    let head = |status: u16, rest: &str| format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{rest}\r\n");
    let empty = |status: u16, rest: &str| head(status, &format!("Content-Length: 0\r\n{rest}"));
    let mut out = stream;
    if let Some(revision) = path.strip_prefix(&format!("/api/models/{REPO}/revision/")) {
        if let Some((status, code)) = world.refuse_listing {
            return out.write_all(empty(status, &format!("X-Error-Code: {code}\r\n")).as_bytes());
        }
        let commit = world.refs.get(revision).cloned().unwrap_or_else(|| revision.to_owned());
        let Some(files) = world.commits.get(&commit) else {
            return out.write_all(empty(404, "X-Error-Code: RevisionNotFound\r\n").as_bytes());
        };
        let files: Vec<_> = files.keys().map(|name| json!({"rfilename": name})).collect();
        let body = json!({"sha": commit, "siblings": files}).to_string();
        return out.write_all((head(200, &format!("Content-Length: {}\r\n", body.len())) + &body).as_bytes());
    }
    let range = header("range");
    if let Some((commit, name)) = path.strip_prefix(&format!("/{REPO}/resolve/")).and_then(|rest| rest.split_once('/'))
    {
        if let Some(status) = world.refuse_files {
            return out.write_all(empty(status, "").as_bytes());
        }
        let Some(bytes) = world.commits.get(commit).and_then(|files| files.get(name)).cloned() else {
            return out.write_all(empty(404, "X-Error-Code: EntryNotFound\r\n").as_bytes());
        };
        let sha = sha256(&bytes);
        // As on the real hub, large files are redirected and named by their SHA-256, small ones by a 40-digit hash.
        if name.ends_with(".safetensors") {
            let location = format!("Location: {endpoint}/cdn/{commit}/{name}\r\n");
            let rest = format!("{location}X-Linked-Etag: \"{sha}\"\r\nX-Repo-Commit: {commit}\r\n");
            return out.write_all(empty(302, &rest).as_bytes());
        }
        let rest = format!("ETag: \"{}\"\r\nX-Repo-Commit: {commit}\r\n", &sha[..40]);
        return send(out, &bytes, &range, &rest, None);
    }
    if let Some((commit, name)) = path.strip_prefix("/cdn/").and_then(|rest| rest.split_once('/')) {
        let bytes = world.commits[commit][name].clone();
        // The one-byte request asks only for the size.
        let fault = (range != "bytes=0-0" && !world.faults.is_empty()).then(|| world.faults.remove(0));
        return send(out, &bytes, &range, "", fault);
    }
    out.write_all(empty(404, "X-Error-Code: RepoNotFound\r\n").as_bytes())
}

fn send(mut out: &TcpStream, bytes: &[u8], range: &str, headers: &str, fault: Option<Fault>) -> std::io::Result<()> {
    let status = if range.is_empty() { 200 } else { 206 };
    let (from, to) = range.trim_start_matches("bytes=").split_once('-').unwrap_or(("0", ""));
    let from: usize = from.parse().unwrap_or(0);
    if from >= bytes.len() {
        return write!(out, "HTTP/1.1 416 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    }
    let to = to.parse().map_or(bytes.len(), |to: usize| to + 1);
    let mut body = bytes[from..to].to_vec();
    let mut length = format!("Content-Length: {}\r\n", body.len());
    match fault {
        Some(Fault::Cut(n)) => body.truncate(n),
        Some(Fault::Short(n)) => {
            body.truncate(n);
            length.clear();
        }
        Some(Fault::Wrong) => body.fill(b'x'),
        None => {}
    }
    let content_range = format!("Content-Range: bytes {from}-{}/{}\r\n", to.saturating_sub(1), bytes.len());
    write!(out, "HTTP/1.1 {status} X\r\nConnection: close\r\n{length}{content_range}{headers}\r\n")?;
    out.write_all(&body)
}
