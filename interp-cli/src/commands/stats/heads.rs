//! Which heads `interp stats` is asked about: named ones, or the largest of this folder or of another.

use std::str::FromStr;

use anyhow::Result;
use interp_core::Error;
use interp_core::export::Study;
use interp_core::site::HeadRef;

use crate::cli::StatsArgs;
use crate::output::Printer;

/// `--heads` as typed.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// As typed: heads, or parts of an adapter where the folder's grid has those.
    Named(Vec<String>),
    Top(usize),
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> interp_core::Result<Self> {
        let Some(k) = text.strip_prefix("top:") else {
            return Ok(Choice::Named(text.split(',').map(|name| name.trim().to_owned()).collect()));
        };
        k.parse().map(Choice::Top).map_err(|_| Error::Selector {
            what: "heads",
            value: text.into(),
            problem: "not a number of heads".into(),
            hint: Some("write top:1, or heads such as L19.H17,L20.H3".into()),
        })
    }
}

/// The cells asked about, in the order asked; `None` without `--heads` (or `--top` for a control).
pub fn cells(study: &Study, metric: usize, args: &StatsArgs, printer: &Printer) -> Result<Option<Vec<usize>>> {
    let choice = match (&args.heads, args.control.as_ref().and(args.top)) {
        (Some(text), _) => text.parse()?,
        (None, Some(k)) => Choice::Top(k),
        (None, None) => return Ok(None),
    };
    let heads = match choice {
        Choice::Named(names) if args.ranked_by.is_some() => {
            let value = names.join(",");
            let problem = "named heads need no ranking".into();
            let hint = Some("write --heads top:K, or leave --ranked-by out".into());
            return Err(Error::Selector { what: "heads", value, problem, hint }.into());
        }
        Choice::Named(names) if study.has_parts() => return Ok(Some(study.cells_of_parts(metric, &names)?)),
        Choice::Named(names) => names.iter().map(|name| name.parse()).collect::<interp_core::Result<_>>()?,
        Choice::Top(k) => match &args.ranked_by {
            None => {
                printer.talk("the heads were chosen by the numbers they are reported with, which flatters them");
                study.top_heads(metric, k)?
            }
            Some(dir) => {
                let ranking = Study::load(dir)?;
                if ranking.layout.head_axis != study.layout.head_axis {
                    let here = args.dir.as_deref().unwrap_or(dir);
                    let axis = |study: &Study| study.layout.head_axis.map_or("no", |axis| axis.name());
                    let problem = format!("counts {} heads, {} counts {}", axis(&ranking), here.display(), axis(study));
                    let hint = Some("rank by a sweep of a site with the same heads".into());
                    return Err(Error::File { path: dir.clone(), problem, hint }.into());
                }
                let heads = ranking.top_heads(0, k)?;
                let names: Vec<String> = heads.iter().map(HeadRef::to_string).collect();
                let (dir, by) = (dir.display(), &ranking.layout.metrics[0]);
                printer.talk(&format!("heads of largest mean {by} in {dir}: {}", names.join(", ")));
                heads
            }
        },
    };
    Ok(Some(study.cells_of_heads(metric, &heads)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_named_or_counted() {
        let named = Choice::Named(vec!["L2.H6".into(), "L1.MLP".into()]);
        assert_eq!("L2.H6, L1.MLP".parse::<Choice>().unwrap(), named);
        assert_eq!("top:3".parse::<Choice>().unwrap(), Choice::Top(3));
        for text in ["top:", "top:-1"] {
            assert!(text.parse::<Choice>().is_err(), "{text}");
        }
    }
}
