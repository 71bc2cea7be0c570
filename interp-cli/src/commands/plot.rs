//! `interp plot`: an output folder's figure, drawn again. Needs no model.

use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::export::{Study, write_atomic};
use interp_core::plot;

use crate::cli::PlotArgs;
use crate::noise;
use crate::output::{Exit, Printer};

enum Format {
    Svg,
    Png,
}

/// Writes the figure and prints the paths written.
pub fn plot(args: &PlotArgs, printer: &Printer) -> Result<Exit> {
    let study = Study::load(&args.dir)?;
    let metric = study.metric(args.metric.as_deref())?;
    let files = match &args.out {
        Some(path) => vec![(path.clone(), format(path)?)],
        None => {
            let file = |extension| args.dir.join(study.layout.file("heatmap", metric, extension));
            vec![(file("svg"), Format::Svg), (file("png"), Format::Png)]
        }
    };
    let summary = study.summary(metric, &study.bootstrap)?;
    noise::line_of(&study, &summary).iter().for_each(|line| printer.talk(line));
    let mut figure = study.figure(&summary, args.top);
    if let Some(title) = &args.title {
        figure.title.clone_from(title);
    }
    for (path, format) in files {
        let bytes = match format {
            Format::Svg => plot::svg(&figure)?.into_bytes(),
            Format::Png => plot::png(&figure)?,
        };
        write_atomic(&path, &bytes)?;
        printer.data(&format!("{}\n", path.display()))?;
    }
    Ok(Exit::Done)
}

fn format(path: &Path) -> Result<Format> {
    match path.extension().map(|extension| extension.to_ascii_lowercase()) {
        Some(extension) if extension == "svg" => Ok(Format::Svg),
        Some(extension) if extension == "png" => Ok(Format::Png),
        _ => Err(Error::File {
            path: path.into(),
            problem: "a figure is .svg or .png".into(),
            hint: Some("end the name of --out in .svg or .png".into()),
        }
        .into()),
    }
}
