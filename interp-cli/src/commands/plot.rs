//! `interp plot`: an output folder's figure, drawn again. Needs no model.

use anyhow::Result;
use interp_core::export::Study;

use crate::cli::PlotArgs;
use crate::output::{Exit, Printer};
use crate::{figure, noise};

/// Writes the figure and prints the paths written.
pub fn plot(args: &PlotArgs, printer: &Printer) -> Result<Exit> {
    let study = Study::load(&args.dir)?;
    let metric = study.metric(args.metric.as_deref())?;
    let files = match &args.out {
        Some(path) => vec![path.clone()],
        None => {
            let file = |extension| args.dir.join(study.layout.file("heatmap", metric, extension));
            vec![file("svg"), file("png")]
        }
    };
    files.iter().try_for_each(|path| figure::check(path))?;
    let summary = study.summary(metric, &study.bootstrap)?;
    noise::line_of(&study, &summary).iter().for_each(|line| printer.talk(line));
    let mut drawn = study.figure(&summary, args.top);
    if let Some(title) = &args.title {
        drawn.title.clone_from(title);
    }
    for path in files {
        figure::write(&drawn, &path)?;
        printer.data(&format!("{}\n", path.display()))?;
    }
    Ok(Exit::Done)
}
