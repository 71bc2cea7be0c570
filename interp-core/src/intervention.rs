//! What the user asks ([`Intervention`], [`Edit`]) and the same bound to a prompt ([`Edits`]): every user mistake is found
//! while binding, before any tensor is touched.

mod apply;
mod bind;
mod donors;
mod places;

use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

use tch::Tensor;

pub use self::bind::{CellSet, Context, Edits, Frontier, Reach};
pub use self::donors::{Donors, Moments};
pub use self::places::common_prefix;
use crate::error::{Error, Result};
use crate::site::{HookPoint, Positions};

/// One change to one hook point.
#[derive(Debug, Clone)]
pub struct Intervention {
    /// Where.
    pub at: HookPoint,
    /// Heads on the site's head axis; `None` means all of them, and is the only choice at sites without heads.
    pub heads: Option<Vec<usize>>,
    /// Which positions (destinations, at attention sites).
    pub positions: Positions,
    /// What happens there.
    pub edit: Edit,
}

/// What happens to an activation.
#[derive(Debug, Clone)]
pub enum Edit {
    /// Set to 0. Zeroing `pattern` does not renormalise it.
    Zero,
    /// Set to the mean over prompts at the same position counted from the end.
    Mean,
    /// Set to what the source run has at the corresponding position.
    Patch,
    /// Add a vector.
    Add {
        /// `[width]`, or `[head, width]` for one vector per head.
        vector: Rc<Tensor>,
        /// Multiplies the vector.
        factor: f64,
    },
    /// Multiply by a factor.
    Scale(f64),
    /// Add Gaussian noise of this many standard deviations of the site (over prompts, same position from the end).
    Noise(f64),
    /// At `scores`: forbid these keys and renormalise.
    Knockout {
        /// Positions that may no longer be attended to.
        keys: Positions,
    },
    /// At `scores`: set every allowed score to 0, so that attention is uniform.
    UniformAttention,
    /// Nothing is changed by itself: the row enters here, from where on parts of an adapter count in it that do not count in the
    /// clean row. Which, the sweep says.
    Graft,
    /// The same, with parts of the adapter that count in the clean row and not in this one.
    Ungraft,
}

/// [`Edit`] as typed, before files are read: `zero`, `mean[:DIR]`, `patch`, `add:FILE.npy[:F]`, `scale:F`,
/// `noise:F[:DIR]`, `knockout`, `uniform-attention`, `graft`, `ungraft`.
#[derive(Debug, Clone, PartialEq)]
pub enum EditSpec {
    /// `zero`
    Zero,
    /// `mean` over the trial file's base prompts, or over a capture folder.
    Mean(Option<String>),
    /// `patch`
    Patch,
    /// `add:FILE.npy[:F]`
    Add(String, f64),
    /// `scale:F`
    Scale(f64),
    /// `noise:F[:DIR]`, the statistics from the trial file's base prompts or from a capture folder.
    Noise(f64, Option<String>),
    /// `knockout`
    Knockout,
    /// `uniform-attention`
    UniformAttention,
    /// `graft`
    Graft,
    /// `ungraft`
    Ungraft,
}

impl EditSpec {
    /// Whether the edit needs statistics over prompts.
    pub fn needs_moments(&self) -> bool {
        matches!(self, EditSpec::Mean(_) | EditSpec::Noise(..))
    }

    /// Whether the edit is of an adapter, not of an activation.
    pub fn is_graft(&self) -> bool {
        matches!(self, EditSpec::Graft | EditSpec::Ungraft)
    }

    /// The capture folder that statistics come from, where one is named.
    pub fn capture_dir(&self) -> Option<&str> {
        match self {
            EditSpec::Mean(dir) | EditSpec::Noise(_, dir) => dir.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for EditSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EditSpec::Zero => f.write_str("zero"),
            EditSpec::Mean(None) => f.write_str("mean"),
            EditSpec::Mean(Some(dir)) => write!(f, "mean:{dir}"),
            EditSpec::Patch => f.write_str("patch"),
            EditSpec::Add(file, factor) => write!(f, "add:{file}:{factor}"),
            EditSpec::Scale(factor) => write!(f, "scale:{factor}"),
            EditSpec::Noise(factor, None) => write!(f, "noise:{factor}"),
            EditSpec::Noise(factor, Some(dir)) => write!(f, "noise:{factor}:{dir}"),
            EditSpec::Knockout => f.write_str("knockout"),
            EditSpec::UniformAttention => f.write_str("uniform-attention"),
            EditSpec::Graft => f.write_str("graft"),
            EditSpec::Ungraft => f.write_str("ungraft"),
        }
    }
}

impl FromStr for EditSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (word, rest) = text.split_once(':').map_or((text, None), |(word, rest)| (word, Some(rest)));
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
        let spec = match (word, rest) {
            ("zero", None) => Some(EditSpec::Zero),
            ("mean", dir) if dir != Some("") => Some(EditSpec::Mean(dir.map(str::to_owned))),
            ("patch", None) => Some(EditSpec::Patch),
            ("add", Some(rest)) if !rest.is_empty() => match rest.rsplit_once(':') {
                Some((file, factor)) if number(factor).is_some() => {
                    number(factor).map(|f| EditSpec::Add(file.into(), f))
                }
                _ => Some(EditSpec::Add(rest.into(), 1.0)),
            },
            ("scale", Some(factor)) => number(factor).map(EditSpec::Scale),
            ("noise", Some(rest)) => {
                let (factor, dir) = rest.split_once(':').map_or((rest, None), |(f, dir)| (f, Some(dir)));
                let factor = number(factor).filter(|&f| f > 0.0 && dir != Some(""));
                factor.map(|factor| EditSpec::Noise(factor, dir.map(str::to_owned)))
            }
            ("knockout", None) => Some(EditSpec::Knockout),
            ("uniform-attention", None) => Some(EditSpec::UniformAttention),
            ("graft", None) => Some(EditSpec::Graft),
            ("ungraft", None) => Some(EditSpec::Ungraft),
            _ => None,
        };
        spec.ok_or_else(|| Error::Selector {
            what: "edit",
            value: text.into(),
            problem: "not an edit".into(),
            hint: Some(
                "edits are zero, mean[:CAPTURE_DIR], patch, add:FILE.npy[:F], scale:F, noise:F[:CAPTURE_DIR], knockout, \
                 uniform-attention, graft, ungraft"
                    .into(),
            ),
        })
    }
}

impl Edit {
    /// Whether it is of an adapter, not of an activation.
    pub fn is_graft(&self) -> bool {
        matches!(self, Edit::Graft | Edit::Ungraft)
    }

    fn name(&self) -> &'static str {
        match self {
            Edit::Zero => "zero",
            Edit::Mean => "mean",
            Edit::Patch => "patch",
            Edit::Add { .. } => "add",
            Edit::Scale(_) => "scale",
            Edit::Noise(_) => "noise",
            Edit::Knockout { .. } => "knockout",
            Edit::UniformAttention => "uniform-attention",
            Edit::Graft => "graft",
            Edit::Ungraft => "ungraft",
        }
    }
}
