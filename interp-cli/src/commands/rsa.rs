//! `interp rsa`: how well what each head writes fits hypotheses of what it should be alike to (representational similarity).

mod material;
mod report;

use anyhow::{Result, anyhow};
use interp_core::cache::Picked;
use interp_core::config::ModelConfig;
use interp_core::decoder::Decoder;
use interp_core::guard::catch_torch;
use interp_core::hash::Hashes;
use interp_core::rsa;
use interp_core::site::{HeadAxis, HookPoint, Site};
use interp_core::{Error, Result as CoreResult};
use tch::Kind;

use self::material::Material;
use self::report::Report;
use crate::cli::RsaArgs;
use crate::folder::Folder;
use crate::model::Model;
use crate::output::{Exit, Printer};
use crate::progress::each;
use crate::ranked::Chosen;
use crate::select::{n_heads, width};

/// Runs every prompt once for all heads, compares, and writes the folder.
pub fn rsa(args: &RsaArgs, printer: &Printer) -> Result<Exit> {
    let folder = Folder::check(&args.out)?;
    let model = Model::open(&args.model)?;
    let config = model.checkpoint.config();
    let (site, axis) = site(&args.site)?;
    let chosen = args.heads.as_deref().map(|text| Chosen::read(text, args.ranked_by.as_deref())).transpose()?;
    let chosen = chosen.map(|chosen| chosen.on_axis(axis, config)).transpose()?;
    let material = Material::read(args, &model.reader())?;
    let n_rows = material.n_rows();
    if n_rows < rsa::MIN_ROWS {
        let problem = format!("similarities are correlated over {} rows or more", rsa::MIN_ROWS);
        return Err(Error::Statistics { what: "rows", value: n_rows.to_string(), problem }.into());
    }
    material.bad.iter().for_each(|error| printer.talk(&format!("error: {error}")));
    let folder = folder.begin()?;

    let hashes = Hashes::start(model.weight_files());
    let decoder = model.load(printer)?;
    let Some(features) = Features::collect(&decoder, &material, site, printer)? else { return Ok(Exit::Interrupted) };
    let expected: Vec<Vec<f64>> = material.hypotheses.iter().map(|one| rsa::expected(&one.labels)).collect();
    let r = features.correlations(&expected)?;
    let model = model.describe(&hashes.wait()?);
    let report = Report { args, model, axis, material: &material, features: &features, expected, r, chosen };
    report.write(&folder)?;
    folder.finish()?;
    if args.json {
        printer.data(&report.json())?;
    } else {
        report.tables().lines().for_each(|line| printer.talk(line));
        printer.data(&format!("{}\n", args.out.display()))?;
    }
    Ok(if material.bad.is_empty() { Exit::Done } else { Exit::Failed })
}

/// A site with a vector per head and position.
fn site(text: &str) -> Result<(Site, HeadAxis)> {
    let site: Site = text.parse()?;
    match site.head_axis() {
        Some(axis) if !site.is_attention() => Ok((site, axis)),
        _ => {
            let hint = Some("sites with one are z, q, k, v, result, rot_q, rot_k, k_copy and v_copy".into());
            let problem = "has no vector per head and position".into();
            Err(Error::Selector { what: "site", value: text.into(), problem, hint }.into())
        }
    }
}

/// What every head has at every row.
pub struct Features {
    /// Per layer, `[row, head, width]`.
    layers: Vec<Vec<f32>>,
    n_rows: usize,
    n_heads: usize,
    width: usize,
}

impl Features {
    /// Runs each prompt once. `None` when interrupted.
    fn collect(decoder: &Decoder, material: &Material, site: Site, printer: &Printer) -> Result<Option<Self>> {
        let config: &ModelConfig = decoder.config();
        let heads = n_heads(site, config).ok_or_else(|| anyhow!("{site} has no heads"))?;
        let points: Vec<HookPoint> = (0..config.n_layers).map(|layer| HookPoint::new(site, layer)).collect();
        let mut layers = vec![Vec::new(); config.n_layers];
        let all = each(&material.pieces, "prompts", printer, |_, piece| {
            let wanted = points.iter().map(|&at| (at, None));
            let picked =
                catch_torch(&piece.id, || Ok(Picked::run(decoder, &piece.tokens, piece.positions.clone(), wanted)))?;
            for (layer, &at) in points.iter().enumerate() {
                let act = picked.rows(at).expect("it was asked for").to_kind(Kind::Float).contiguous().view([-1]);
                layers[layer].extend(Vec::<f32>::try_from(act).expect("a vector of f32"));
            }
            Ok(())
        })?;
        let found = Self { layers, n_rows: material.n_rows(), n_heads: heads, width: width(site, config) };
        Ok(all.map(|_| found))
    }

    /// Layers and heads per layer.
    pub fn grid(&self) -> (usize, usize) {
        (self.layers.len(), self.n_heads)
    }

    /// Cosine similarities of a head's rows, `[row, row]`.
    pub fn similarity(&self, layer: usize, head: usize) -> Vec<f64> {
        let row = |row: usize| {
            let start = (row * self.n_heads + head) * self.width;
            &self.layers[layer][start..start + self.width]
        };
        rsa::cosine(&(0..self.n_rows).map(row).collect::<Vec<&[f32]>>())
    }

    /// r of every hypothesis and head, `[hypothesis][layer * head]`, on all cores.
    fn correlations(&self, expected: &[Vec<f64>]) -> Result<Vec<Vec<Option<f64>>>> {
        let cells: Vec<usize> = (0..self.layers.len() * self.n_heads).collect();
        let of_head = |cell: usize| -> CoreResult<Vec<Option<f64>>> {
            let similarity = self.similarity(cell / self.n_heads, cell % self.n_heads);
            expected.iter().map(|expected| rsa::correlation(&similarity, expected, self.n_rows)).collect()
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let part = |cells: &[usize]| cells.iter().map(|&cell| of_head(cell)).collect::<CoreResult<Vec<_>>>();
        let part = &part;
        let found: Vec<Vec<Option<f64>>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                cells.chunks(cells.len().div_ceil(workers)).map(|cells| scope.spawn(move || part(cells))).collect();
            let parts = threads.into_iter().map(|thread| thread.join().expect("comparing does not panic"));
            parts.collect::<CoreResult<Vec<_>>>().map(|parts| parts.concat())
        })?;
        Ok((0..expected.len()).map(|one| found.iter().map(|of_head| of_head[one]).collect()).collect())
    }
}
