//! Files of model-hub repositories, downloaded once into Hugging Face's shared cache. Knows nothing of what is in them.
//!
//! The work is hf-hub's; added here are what it lacks: offline use, one commit for all files, retries that resume, a check
//! of what arrived, and errors that say what to do.

mod options;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use crate::error::{Error, Result};
use crate::hash;

pub use options::{HubOptions, OnDownload};

/// Attempts in a row that bring nothing before a download is given up.
const ATTEMPTS: u32 = 3;
/// Waiting time before the second attempt; doubles after that.
const PAUSE: Duration = Duration::from_millis(200);
/// For the repository's listing; a hub that is slower than this is not there.
const TIMEOUT: Duration = Duration::from_secs(30);

/// `owner/name[@revision]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    repo: String,
    revision: Option<String>,
}

impl HubId {
    /// `None` unless `text` reads `owner/name` or `owner/name@revision` in the hub's alphabet.
    pub fn parse(text: &str) -> Option<Self> {
        let (repo, revision) = match text.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (text, None),
        };
        let (owner, name) = repo.split_once('/')?;
        let plain = |part: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && !part.starts_with('.') && !part.contains("..") && part.chars().all(known)
        };
        // A revision may be a branch with slashes; each part becomes a folder of the cache.
        let good = plain(owner) && plain(name) && revision.is_none_or(|revision| revision.split('/').all(plain));
        good.then(|| Self { repo: repo.into(), revision: revision.map(str::to_owned) })
    }

    /// The repository's own name, without its owner.
    pub fn name(&self) -> &str {
        self.repo.rsplit('/').next().unwrap_or(&self.repo)
    }

    /// The branch, tag or commit asked for.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    fn revision_or_main(&self) -> &str {
        self.revision().unwrap_or("main")
    }

    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.repo.clone(), RepoType::Model, revision.into())
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

/// A repository at one commit.
pub struct HubRepo {
    id: HubId,
    commit: String,
    snapshot: PathBuf,
    options: HubOptions,
    /// `None` when offline.
    remote: Option<Remote>,
}

/// The hub's side of a repository.
struct Remote {
    api: Api,
    repo: ApiRepo,
    files: BTreeSet<String>,
}

impl fmt::Debug for HubRepo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubRepo({} at {})", self.id, self.commit)
    }
}

impl HubRepo {
    /// Settles which commit is meant: one request, or none when offline.
    ///
    /// Errs when the repository or revision does not exist, may not be read, is not cached (offline), or the hub cannot be
    /// reached.
    pub fn open(id: &HubId, options: &HubOptions) -> Result<Self> {
        let cache = Cache::new(options.cache_dir.clone());
        let snapshot = |commit: &str| cache.repo(id.at(commit)).pointer_path(commit);
        if options.offline {
            let commit = cached_commit(id, options).ok_or_else(|| not_cached(id, options))?;
            let snapshot = snapshot(&commit);
            return Ok(Self { id: id.clone(), commit, snapshot, options: options.clone(), remote: None });
        }

        let asking = Asking { id, options };
        let api = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(options.endpoint.clone())
            .with_token(options.token.clone())
            .with_progress(false)
            .build()
            .map_err(|error| asking.error(&error, None))?;
        let info = asking.listing(&api)?;
        // From here on the commit is asked for by name, so that a push meanwhile cannot mix two versions; the branch's
        // name is noted for offline use, as Python's library does.
        if info.sha != id.revision_or_main() {
            cache.repo(id.at(id.revision_or_main())).create_ref(&info.sha).map_err(asking.cache_error())?;
        }
        let files = info.siblings.into_iter().map(|file| file.rfilename).collect();
        let remote = Remote { repo: api.repo(id.at(&info.sha)), api, files };
        let snapshot = snapshot(&info.sha);
        Ok(Self { id: id.clone(), commit: info.sha, snapshot, options: options.clone(), remote: Some(remote) })
    }

    /// The commit's hash.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The folder in the cache where the commit's files lie.
    pub fn snapshot(&self) -> &Path {
        &self.snapshot
    }

    /// Names of the repository's files (offline, of those in the cache).
    pub fn names(&self) -> Vec<String> {
        match &self.remote {
            Some(remote) => remote.files.iter().cloned().collect(),
            None => {
                let entries = std::fs::read_dir(&self.snapshot).into_iter().flatten().flatten();
                entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
            }
        }
    }

    /// The path of file `name` in the cache, downloaded now if it is not there; `None` when the repository (offline, the
    /// cache) does not have it. Errs when it may not be read or the download breaks off for good.
    pub fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        let cached = self.snapshot.join(name);
        if cached.is_file() {
            return Ok(Some(cached));
        }
        match &self.remote {
            Some(remote) if remote.files.contains(name) => self.download(remote, name).map(Some),
            _ => Ok(None),
        }
    }

    /// An error about this repository as a whole; offline, what is missing may merely not be cached.
    pub(crate) fn refuse(&self, problem: &str, hint: &str) -> Error {
        let (problem, hint) = match &self.remote {
            Some(_) => (problem.to_owned(), hint.to_owned()),
            None => (
                format!("{problem} in the cache {}", self.snapshot.display()),
                "run once without --offline or HF_HUB_OFFLINE to download the rest".to_owned(),
            ),
        };
        Error::Hub { repo: self.id.to_string(), problem, hint: Some(hint) }
    }

    /// Downloads, resuming after a break for as long as anything arrives.
    fn download(&self, remote: &Remote, name: &str) -> Result<PathBuf> {
        let asking = Asking { id: &self.id, options: &self.options };
        let (mut in_vain, mut most) = (0, 0);
        loop {
            let tally = Tally::new(name, self.options.on_download.clone());
            let result = remote.repo.download_with_progress(name, tally.clone());
            let error = match result {
                Ok(path) => match check(&path, tally.size.get()) {
                    Ok(()) => return Ok(path),
                    Err(error) => ApiError::IoError(error),
                },
                // A part file as long as the whole or longer cannot be resumed, only begun again.
                Err(error) if matches!(error, ApiError::InvalidResume) || status(&error) == Some(416) => {
                    self.discard_part(remote, name);
                    error
                }
                Err(error) if !is_break(&error) => return Err(asking.error(&error, Some(name))),
                Err(error) => error,
            };
            in_vain = if tally.done.get() > most { 1 } else { in_vain + 1 };
            most = most.max(tally.done.get());
            if in_vain >= ATTEMPTS {
                return Err(asking.error(&error, Some(name)));
            }
            std::thread::sleep(PAUSE * 2_u32.pow(in_vain - 1));
        }
    }

    /// Removes what an earlier, unfinished download of `name` left.
    fn discard_part(&self, remote: &Remote, name: &str) {
        if let Ok(metadata) = remote.api.metadata(&remote.repo.url(name)) {
            let blob = Cache::new(self.options.cache_dir.clone()).repo(self.id.at("main")).blob_path(metadata.etag());
            let _ = std::fs::remove_file(blob.with_extension("part"));
        }
    }
}

/// Errs, and takes the file out of the cache again, unless it has the promised size and, if its name in the cache is a
/// SHA-256, that hash. hf-hub itself would keep whatever came before the connection closed.
fn check(path: &Path, size: u64) -> io::Result<()> {
    let blob = path.canonicalize()?;
    let found = blob.metadata()?.len();
    let problem = if found != size {
        format!("{found} of {size} bytes arrived")
    } else {
        match hash::blob_sha256(&blob) {
            Some(name) if hash::sha256(&blob, || false)?.as_deref() != Some(name) => {
                "what arrived does not have the hash that the hub announced".to_owned()
            }
            _ => return Ok(()),
        }
    };
    std::fs::remove_file(path)?;
    std::fs::remove_file(blob)?;
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem))
}

/// Counts bytes of one attempt and passes them on.
#[derive(Clone)]
struct Tally {
    name: String,
    size: Rc<Cell<u64>>,
    done: Rc<Cell<u64>>,
    listener: Option<OnDownload>,
}

impl Tally {
    fn new(name: &str, listener: Option<OnDownload>) -> Self {
        Self { name: name.into(), size: Rc::default(), done: Rc::default(), listener }
    }
}

impl hf_hub::api::Progress for Tally {
    fn init(&mut self, size: usize, _: &str) {
        self.size.set(size as u64);
        self.done.set(0);
    }

    fn update(&mut self, bytes: usize) {
        self.done.set(self.done.get() + bytes as u64);
        if let Some(listener) = &self.listener {
            listener(&self.name, self.done.get(), self.size.get());
        }
    }

    fn finish(&mut self) {}
}

/// A request about a repository, for its errors.
struct Asking<'a> {
    id: &'a HubId,
    options: &'a HubOptions,
}

impl Asking<'_> {
    /// The commit and the files of the revision asked for.
    fn listing(&self, api: &Api) -> Result<RepoInfo> {
        let request = api.repo(self.id.at(self.id.revision_or_main())).info_request();
        let request = request.config().http_status_as_error(false).timeout_global(Some(TIMEOUT)).build();
        let mut response =
            request.call().map_err(|error| self.error(&ApiError::RequestError(Box::new(error)), None))?;
        let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok()).map(str::to_owned);
        match response.status().as_u16() {
            200 => {}
            404 if code.as_deref() == Some("RevisionNotFound") => {
                let problem = format!("has no revision `{}`", self.id.revision_or_main());
                return Err(self.refuse(problem, "give a branch, a tag or a commit of the repository"));
            }
            status => return Err(self.status(status, None)),
        }
        response.body_mut().read_json().map_err(|_| {
            let problem = format!("{} answered with something other than a repository", self.options.endpoint);
            self.refuse(problem, "check HF_ENDPOINT, and whether a proxy or login page answers instead")
        })
    }

    /// What an error of hf-hub means; `file` is what was being fetched.
    fn error(&self, error: &ApiError, file: Option<&str>) -> Error {
        if let Some(code) = status(error) {
            return self.status(code, file);
        }
        let endpoint = &self.options.endpoint;
        match (error, file) {
            (ApiError::RequestError(source), _) if !is_body(source) => {
                let cached = cached_commit(self.id, self.options).is_some();
                let hint = match cached {
                    true => "set HF_HUB_OFFLINE=1 to use what is in the cache",
                    false => "check the network, HF_ENDPOINT and the proxy settings",
                };
                self.refuse(format!("cannot reach {endpoint}: {}", cause(source)), hint)
            }
            (ApiError::LockAcquisition(_), Some(file)) => {
                self.refuse(format!("another process is downloading {file}"), "wait for it, then run this again")
            }
            (ApiError::MissingHeader(header) | ApiError::InvalidHeader(header), _) => self.refuse(
                format!("{endpoint} answered without a usable `{header}` header"),
                "check HF_ENDPOINT, and whether a proxy or login page answers instead",
            ),
            (error, file) => self.refuse(
                format!("download of {} broke off: {}", file.unwrap_or("its listing"), broken(error)),
                "run this again: it resumes where it stopped",
            ),
        }
    }

    /// What an HTTP status means.
    fn status(&self, code: u16, file: Option<&str>) -> Error {
        let endpoint = &self.options.endpoint;
        let page = format!("{endpoint}/{}", self.id.repo);
        let what = file.unwrap_or("the repository");
        match (code, file, &self.options.token) {
            (404, None, _) => self.refuse(
                format!("does not exist on {endpoint}"),
                "check its spelling (owner/name); if a folder was meant, it is not there; if it is private, set HF_TOKEN",
            ),
            (404, Some(file), _) => self.refuse(format!("has no file {file}"), "check the revision"),
            (401, _, None) => self.refuse(
                format!("{what} may not be read without a token (401)"),
                &format!("if the name is right, accept the licence at {page} and set HF_TOKEN"),
            ),
            (401, _, Some(_)) => {
                self.refuse(format!("{what} may not be read with this token (401)"), "set HF_TOKEN to a valid token")
            }
            (403, ..) => self.refuse(
                format!("{what} may not be read by this account (403)"),
                &format!("accept the licence at {page} and set HF_TOKEN to a token that may read gated repositories"),
            ),
            (429, ..) => self.refuse(format!("{endpoint} wants fewer requests (429)"), "wait a little, or set HF_TOKEN"),
            (code, ..) => self.refuse(format!("{endpoint} answered {code} for {what}"), "try again later"),
        }
    }

    fn cache_error(&self) -> impl FnOnce(io::Error) -> Error {
        Error::io("write", self.options.cache_dir.clone())
    }

    fn refuse(&self, problem: impl Into<String>, hint: &str) -> Error {
        Error::Hub { repo: self.id.to_string(), problem: problem.into(), hint: Some(hint.into()) }
    }
}

fn not_cached(id: &HubId, options: &HubOptions) -> Error {
    Error::Hub {
        repo: id.to_string(),
        problem: format!("is not in the cache {}, and this run is offline", options.cache_dir.display()),
        hint: Some("run once without --offline or HF_HUB_OFFLINE to download it".into()),
    }
}

/// The commit that the cache holds for the revision asked for: a branch or tag noted in it, or a commit in full.
fn cached_commit(id: &HubId, options: &HubOptions) -> Option<String> {
    let revision = id.revision_or_main();
    let cache = Cache::new(options.cache_dir.clone()).repo(id.at(revision));
    let holds = |commit: &str| cache.pointer_path(commit).is_dir();
    let folder = options.cache_dir.join(id.at(revision).folder_name());
    let noted = std::fs::read_to_string(folder.join("refs").join(revision)).ok();
    noted.map(|commit| commit.trim().to_owned()).into_iter().chain([revision.to_owned()]).find(|commit| holds(commit))
}

fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(source) => match **source {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        _ => None,
    }
}

/// Whether trying again may help.
fn is_break(error: &ApiError) -> bool {
    match error {
        ApiError::IoError(_) => true,
        ApiError::RequestError(_) => status(error).is_none_or(|code| code >= 500),
        _ => false,
    }
}

/// Whether the connection stood and broke, rather than never standing.
fn is_body(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(source) => source.kind() == io::ErrorKind::UnexpectedEof,
        ureq::Error::Protocol(_) => true,
        _ => false,
    }
}

fn cause(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(source) => source.to_string(),
        other => other.to_string(),
    }
}

fn broken(error: &ApiError) -> String {
    match error {
        ApiError::IoError(source) => source.to_string(),
        ApiError::RequestError(source) => cause(source),
        other => other.to_string(),
    }
}
