//! Every way a user's input can be wrong, with typed fields; knows nothing of tensors or of the command line.

use std::io::ErrorKind;
use std::path::PathBuf;

/// Result of everything in this crate that can meet bad input.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One cause, named by file, field and what was found. The remedy is in [`Error::hint`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be opened, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done: `read`, `write`, `create`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// A file that should hold JSON does not parse.
    #[error("{}{}: {source}", path.display(), line.map(|n| format!(":{n}")).unwrap_or_default())]
    Json {
        /// The file.
        path: PathBuf,
        /// 1-based line, for JSONL files.
        line: Option<usize>,
        /// The parser's word.
        source: serde_json::Error,
    },
    /// A field of a JSON file has a value that cannot be used.
    #[error("{}: field `{field}`: {problem}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, dotted from the top.
        field: String,
        /// What is wrong with it, including the value found.
        problem: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A tensor is missing, misshapen or unusable.
    #[error("{}: tensor `{tensor}`: expected {expected}, found {found}", path.display())]
    Tensor {
        /// The checkpoint file or folder.
        path: PathBuf,
        /// Full tensor name.
        tensor: String,
        /// What the config implies.
        expected: String,
        /// What the file holds.
        found: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A file is there but is not what it should be (truncated, pickled, wrong format).
    #[error("{}: {problem}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The model hub refused or failed.
    #[error("hub repository {repo}: {problem}")]
    Hub {
        /// `owner/name[@revision]`.
        repo: String,
        /// What happened.
        problem: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A line of a trial file, or a prompt, cannot be used.
    #[error("{place}: {problem}")]
    Prompt {
        /// Where: `trials.jsonl:12`, a trial id, `--prompt`.
        place: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A selector (head, layer, position, site) names something that does not exist or cannot be edited so.
    #[error("{what} `{value}`: {problem}")]
    Selector {
        /// `head`, `layer`, `position`, `site`, `edit`, …
        what: &'static str,
        /// As the user wrote it.
        value: String,
        /// Why it cannot be.
        problem: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// An output folder holds another run, or something that is no run at all.
    #[error("{}: holds another run: `{field}` is {found} there and {wanted} here", path.display())]
    OtherRun {
        /// The output folder.
        path: PathBuf,
        /// First field that differs, dotted from the top.
        field: String,
        /// The value in the folder, as JSON, or `absent`.
        found: String,
        /// The value of this run, as JSON, or `absent`.
        wanted: String,
    },
    /// Another process is writing the same output folder.
    #[error("{}: another process is writing this folder", path.display())]
    Busy {
        /// The output folder.
        path: PathBuf,
    },
    /// A statistic was asked for that cannot be computed.
    #[error("{what} {value}: {problem}")]
    Statistics {
        /// `confidence level`, `resamples`, `trials`.
        what: &'static str,
        /// The value given.
        value: String,
        /// Why it cannot be.
        problem: String,
    },
    /// A figure could not be drawn.
    #[error("cannot draw the figure: {problem}")]
    Figure {
        /// What stood in the way.
        problem: String,
    },
    /// A task could not make as many draws as were asked for.
    #[error("only {found} of {wanted} draws can be used, after {attempts} were tried; {}", counted(rejected))]
    TooFewDraws {
        /// Draws that can be used.
        found: usize,
        /// Draws asked for.
        wanted: usize,
        /// Draws tried.
        attempts: usize,
        /// Why the others cannot, and how many of them.
        rejected: Vec<(String, usize)>,
    },
    /// A trial file without a single trial.
    #[error("there is no trial to run")]
    NoTrials,
    /// An edit was bound but never reached, which would make its measured effect meaningless.
    #[error("edit of {at} was never applied to {missed} of its {bound} places")]
    EditNeverFired {
        /// The hook point.
        at: String,
        /// Places bound.
        bound: usize,
        /// Places not reached.
        missed: usize,
    },
    /// libtorch failed after binding: our bug, or memory ran out.
    #[error("{context}: {message}")]
    Torch {
        /// What was running.
        context: String,
        /// libtorch's first line.
        message: String,
    },
}

impl Error {
    /// Shorthand for an I/O error at a path, as used with `map_err`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// What the user can do about it, in one line, when there is something to say.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Field { hint, .. }
            | Self::Tensor { hint, .. }
            | Self::File { hint, .. }
            | Self::Hub { hint, .. }
            | Self::Prompt { hint, .. }
            | Self::Selector { hint, .. } => hint.as_deref(),
            Self::EditNeverFired { .. } => Some("this is a defect of interp: please report the command"),
            Self::OtherRun { .. } => Some("give another folder, or repeat the command that made this one"),
            Self::TooFewDraws { .. } => {
                Some("ask for fewer --draws, loosen --filter, or try longer with --max-attempts")
            }
            Self::Busy { .. } => Some("wait for it to end, or give another folder"),
            Self::Io { action, source, .. } => match (source.kind(), *action) {
                (ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge, _) => {
                    Some("free some space; what was written before is kept")
                }
                (ErrorKind::NotADirectory, _) => Some("a part of the path is a file: check the path"),
                (ErrorKind::NotFound, "read" | "open") => Some("check the path; it starts at the current folder"),
                (ErrorKind::PermissionDenied, "read" | "open" | "map") => Some("check who may read it"),
                (
                    ErrorKind::NotFound
                    | ErrorKind::PermissionDenied
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::AlreadyExists,
                    "create" | "write",
                ) => Some("give a folder that can be written to"),
                _ => None,
            },
            Self::Json { .. } | Self::NoTrials | Self::Torch { .. } | Self::Statistics { .. } | Self::Figure { .. } => {
                None
            }
        }
    }
}

/// `rejected: 12 of one reason, 3 of another`, the most frequent first.
fn counted(rejected: &[(String, usize)]) -> String {
    let mut sorted: Vec<&(String, usize)> = rejected.iter().collect();
    sorted.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let reasons: Vec<String> = sorted.into_iter().map(|(reason, n)| format!("{n} ({reason})")).collect();
    if reasons.is_empty() { "none was rejected".into() } else { format!("rejected: {}", reasons.join(", ")) }
}
