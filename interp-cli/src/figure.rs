//! A figure to the kind of file that its name asks for. Decides nothing about what is shown.

use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::export::write_atomic;
use interp_core::plot::{self, Figure};

enum Format {
    Svg,
    Png,
}

/// Errs for a name that is neither `.svg` nor `.png`.
pub fn check(path: &Path) -> interp_core::Result<()> {
    format(path).map(drop)
}

/// Writes the figure.
pub fn write(figure: &Figure, path: &Path) -> Result<()> {
    let bytes = match format(path)? {
        Format::Svg => plot::svg(figure)?.into_bytes(),
        Format::Png => plot::png(figure)?,
    };
    Ok(write_atomic(path, &bytes)?)
}

fn format(path: &Path) -> interp_core::Result<Format> {
    match path.extension().map(|extension| extension.to_ascii_lowercase()) {
        Some(extension) if extension == "svg" => Ok(Format::Svg),
        Some(extension) if extension == "png" => Ok(Format::Png),
        _ => Err(Error::File {
            path: path.into(),
            problem: "a figure is .svg or .png".into(),
            hint: Some("end its name in .svg or .png".into()),
        }),
    }
}
