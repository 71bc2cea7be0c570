//! How users choose heads, positions and layers, and how those print and parse.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::error::{Error, Result};

/// One head of one layer, 0-based. Prints `L19.H17`; also reads `L19H17` and `19.17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadRef {
    /// Layer, 0-based.
    pub layer: usize,
    /// Head on the site's head axis, 0-based.
    pub head: usize,
}

impl fmt::Display for HeadRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}.H{}", self.layer, self.head)
    }
}

impl FromStr for HeadRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let rest = text.strip_prefix(['L', 'l']);
            let (layer, head) = match rest {
                Some(rest) => rest.split_once(['H', 'h']).map(|(l, h)| (l.strip_suffix('.').unwrap_or(l), h))?,
                None => text.split_once('.')?,
            };
            Some(HeadRef { layer: layer.parse().ok()?, head: head.parse().ok()? })
        };
        parse().ok_or_else(|| Error::Selector {
            what: "head",
            value: text.into(),
            problem: "not a head".into(),
            hint: Some("write L19.H17, L19H17 or 19.17, counted from 0".into()),
        })
    }
}

/// Which positions of a prompt; resolved separately in base and source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positions {
    /// Every position.
    All,
    /// Positions by index; negative ones count from the end (−1 is the last).
    Index(Vec<i64>),
    /// The union of a named span's ranges.
    Span(String),
}

impl Positions {
    /// The index, if this selects one position by index.
    pub fn single(&self) -> Option<i64> {
        match self {
            Positions::Index(list) if list.len() == 1 => Some(list[0]),
            _ => None,
        }
    }
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Positions::All => f.write_str("all"),
            Positions::Index(list) if list == &[-1] => f.write_str("last"),
            Positions::Index(list) => {
                let list: Vec<String> = list.iter().map(i64::to_string).collect();
                f.write_str(&list.join(","))
            }
            Positions::Span(name) => write!(f, "span:{name}"),
        }
    }
}

impl FromStr for Positions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "all" => Ok(Positions::All),
            "last" => Ok(Positions::Index(vec![-1])),
            _ => match text.strip_prefix("span:") {
                Some(name) if !name.is_empty() => Ok(Positions::Span(name.into())),
                _ => {
                    let list: std::result::Result<Vec<i64>, _> = text.split(',').map(|p| p.trim().parse()).collect();
                    list.map(Positions::Index).map_err(|_| Error::Selector {
                        what: "positions",
                        value: text.into(),
                        problem: "not a list of positions".into(),
                        hint: Some("write last, all, a list such as 3,-1, or span:NAME".into()),
                    })
                }
            },
        }
    }
}

/// A half-open range of layers as users write it: `A..B`, `A..`, `..B` or a single layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// First layer.
    pub start: usize,
    /// One past the last layer; `None` means up to the top.
    pub end: Option<usize>,
}

impl Layers {
    /// The layers meant in a model of `n_layers`, or an error naming what is out of range.
    pub fn resolve(&self, n_layers: usize) -> Result<Range<usize>> {
        let range = self.start..self.end.unwrap_or(n_layers);
        if range.is_empty() || range.end > n_layers {
            let empty = if range.is_empty() && range.end <= n_layers { "is empty: " } else { "" };
            return Err(Error::Selector {
                what: "layers",
                value: self.to_string(),
                problem: format!("{empty}the model has layers 0..{n_layers}"),
                hint: Some("ranges are half-open: 0..4 means layers 0, 1, 2 and 3".into()),
            });
        }
        Ok(range)
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            Some(end) => write!(f, "{}..{end}", self.start),
            None => write!(f, "{}..", self.start),
        }
    }
}

impl FromStr for Layers {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || -> Option<Self> {
            let Some((start, end)) = text.split_once("..") else {
                let layer = text.parse().ok()?;
                return Some(Self { start: layer, end: Some(layer + 1) });
            };
            let start = if start.is_empty() { 0 } else { start.parse().ok()? };
            let end = if end.is_empty() { None } else { Some(end.parse().ok()?) };
            Some(Self { start, end })
        };
        parse().ok_or_else(|| Error::Selector {
            what: "layers",
            value: text.into(),
            problem: "not a range of layers".into(),
            hint: Some("write A..B (half-open), A.., ..B or a single layer".into()),
        })
    }
}
