//! Which of the donor's layers and heads stand for those of the edited model. Refuses to guess. No tensors but the choice of
//! heads.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;
use tch::Tensor;

use super::fit::Method;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::site::{Axis, HeadAxis, HookPoint, Site};

/// How layers are paired: by relative depth, or as a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerMap {
    /// The first with the first, the last with the last, evenly between.
    Relative,
    /// One donor layer per layer of the edited model.
    Table(PathBuf, Vec<usize>),
}

/// How heads of paired layers are paired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadMap {
    /// Evenly: head h of n takes from head ⌊h·m/n⌋ of m.
    Relative,
    /// One donor head per head of the edited model: one list for all layers, or one per layer.
    Table(PathBuf, Vec<Vec<usize>>),
}

impl FromStr for LayerMap {
    type Err = Error;

    /// `relative`, or the path of a JSON file: `[0, 0, 1, …]`.
    fn from_str(text: &str) -> Result<Self> {
        if text == "relative" {
            return Ok(Self::Relative);
        }
        let path = Path::new(text);
        let json = read(path, "layer map", LAYER_HINT)?;
        let table = numbers(path, "layers", &json, LAYER_HINT)?;
        Ok(Self::Table(path.into(), table))
    }
}

impl FromStr for HeadMap {
    type Err = Error;

    /// `relative`, or the path of a JSON file: `[0, 0, 1, …]` for every layer, or `[[0, 1, …], …]`, one list per layer.
    fn from_str(text: &str) -> Result<Self> {
        if text == "relative" {
            return Ok(Self::Relative);
        }
        let path = Path::new(text);
        let json = read(path, "head map", HEAD_HINT)?;
        let per_layer = json.as_array().filter(|rows| rows.iter().any(Value::is_array));
        let table = match per_layer {
            Some(rows) => {
                let row = |(layer, row): (usize, &Value)| numbers(path, &format!("[{layer}]"), row, HEAD_HINT);
                rows.iter().enumerate().map(row).collect::<Result<_>>()?
            }
            None => vec![numbers(path, "heads", &json, HEAD_HINT)?],
        };
        Ok(Self::Table(path.into(), table))
    }
}

const LAYER_HINT: &str = "write one donor layer per layer of the edited model: [0, 0, 1, …], or give `relative`";
const HEAD_HINT: &str =
    "write one donor head per head of the edited model, [0, 0, 1, …], or one such list per layer, or give `relative`";

fn read(path: &Path, what: &'static str, hint: &str) -> Result<Value> {
    if !path.exists() {
        let problem = "neither `relative` nor a file".into();
        return Err(Error::Selector { what, value: path.display().to_string(), problem, hint: Some(hint.into()) });
    }
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.into(), line: None, source })
}

fn numbers(path: &Path, field: &str, json: &Value, hint: &str) -> Result<Vec<usize>> {
    let number = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
    let list: Option<Vec<usize>> = json.as_array().and_then(|list| list.iter().map(number).collect());
    list.ok_or_else(|| Error::Field {
        path: path.into(),
        field: field.into(),
        problem: format!("is no list of whole numbers: {}", json.to_string().chars().take(60).collect::<String>()),
        hint: Some(hint.into()),
    })
}

/// Numbers along an axis that the model's geometry decides; 1 along batch and positions.
pub fn extent(axis: Axis, config: &ModelConfig) -> usize {
    match axis {
        Axis::Batch | Axis::Pos | Axis::Dest | Axis::Src => 1,
        Axis::Head => config.n_heads,
        Axis::KvHead => config.n_kv_heads,
        Axis::DHead => config.d_head,
        Axis::DModel => config.d_model,
        Axis::DMlp => config.d_mlp,
    }
}

/// For every layer and head of the edited model, those of the donor that stand for it, at one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correspondence {
    /// Donor layer per layer.
    layers: Vec<usize>,
    /// Donor head per layer and head; empty at sites without heads.
    heads: Vec<Vec<usize>>,
    donor_heads: usize,
    /// Length of the activation's last axis there and here; 0 at attention sites, where it is the prompt's.
    widths: (usize, usize),
}

impl Correspondence {
    /// Pairs layers and heads of two models at a site. Where no map is given, their numbers must be equal: what is not is
    /// refused, with the flag to give. Widths may differ (see [`Correspondence::check`]) where a map of layers is
    /// given; without any map the site's whole shape must be the same.
    pub fn new(
        site: Site,
        edited: &ModelConfig,
        donor: &ModelConfig,
        layers: Option<&LayerMap>,
        heads: Option<&HeadMap>,
    ) -> Result<Self> {
        let (n, m) = (edited.n_layers, donor.n_layers);
        let layers = match layers {
            _ if !site.is_per_layer() => vec![0],
            None if n == m => (0..n).collect(),
            None => {
                let problem = format!("the edited model has {n} layers, the donor {m}");
                return Err(refuse("layer map", "none", problem, "give --layer-map relative, or --layer-map FILE"));
            }
            // ⌊l·(m−1)/(n−1) + 1/2⌋
            Some(LayerMap::Relative) => {
                (0..n).map(|l| if n == 1 { m - 1 } else { (2 * l * (m - 1) + n - 1) / (2 * (n - 1)) }).collect()
            }
            Some(LayerMap::Table(path, table)) => {
                check_table(path, "layers", table, n, m, "layer", LAYER_HINT)?;
                table.clone()
            }
        };
        let axis = site.head_axis().map(|axis| if axis == HeadAxis::Kv { Axis::KvHead } else { Axis::Head });
        let (n, m) = axis.map_or((0, 0), |axis| (extent(axis, edited), extent(axis, donor)));
        let heads = match (axis, heads) {
            (None, _) => Vec::new(),
            (_, None) if n == m => vec![(0..n).collect(); layers.len()],
            (_, None) => {
                let problem = format!("the edited model has {n} heads at `{site}`, the donor {m}");
                return Err(refuse("head map", "none", problem, "give --head-map relative, or --head-map FILE"));
            }
            (_, Some(HeadMap::Relative)) => vec![(0..n).map(|h| h * m / n).collect(); layers.len()],
            (_, Some(HeadMap::Table(path, table))) => {
                if table.len() != 1 && table.len() != layers.len() {
                    let problem = format!("has {} lists, the edited model {} layers", table.len(), layers.len());
                    return Err(Error::File { path: path.clone(), problem, hint: Some(HEAD_HINT.into()) });
                }
                for (row, list) in table.iter().enumerate() {
                    check_table(path, &format!("[{row}]"), list, n, m, "head", HEAD_HINT)?;
                }
                (0..layers.len()).map(|layer| table[layer.min(table.len() - 1)].clone()).collect()
            }
        };
        let last = *site.axes().last().expect("every site has axes");
        let width = |config| if last == Axis::Src { 0 } else { extent(last, config) };
        Ok(Self { layers, heads, donor_heads: m, widths: (width(donor), width(edited)) })
    }

    /// Errs when vectors cannot be carried over so: raw and rotated ones need equal widths, and rows of attention, as wide
    /// as the prompt is long, have no fitted map.
    pub fn check(&self, site: Site, method: Method) -> Result<()> {
        let (donor, edited) = self.widths;
        let problem = format!("`{site}` is {donor} wide in the donor and {edited} in the edited model");
        let (problem, hint) = match method {
            Method::Raw if donor != edited => {
                (problem, "give --map ridge --calibrate TRIALS.jsonl, which fits a map between them")
            }
            Method::Procrustes if donor != edited => (problem, "use --map ridge, which maps any width to any other"),
            Method::Procrustes | Method::Ridge(_) if site.is_attention() => {
                (format!("`{site}` is as wide as the prompt is long"), "use --map raw")
            }
            _ => return Ok(()),
        };
        Err(refuse("map", &method.to_string(), problem, hint))
    }

    /// Whether every layer and head takes from the one of the same number, in vectors of the same width.
    pub fn is_identity(&self) -> bool {
        let same = |list: &[usize]| list.iter().enumerate().all(|(i, &j)| i == j);
        let heads = self.heads.iter().all(|heads| same(heads) && heads.len() == self.donor_heads);
        same(&self.layers) && heads && self.widths.0 == self.widths.1
    }

    /// Donor layer per layer of the edited model.
    pub fn layers(&self) -> &[usize] {
        &self.layers
    }

    /// Donor head per layer and head of the edited model; empty at sites without heads.
    pub fn heads(&self) -> &[Vec<usize>] {
        &self.heads
    }

    /// The donor's hook point that stands for `at`.
    pub fn point(&self, at: HookPoint) -> HookPoint {
        HookPoint::new(at.site, self.layers[at.layer])
    }

    /// Of the donor's activation at [`point`](Self::point)`(at)`, on the site's axes: the heads that stand for those at `at`.
    pub fn take(&self, at: HookPoint, act: &Tensor) -> Tensor {
        let Some(heads) = self.heads.get(at.layer) else { return act.shallow_clone() };
        if heads.len() == self.donor_heads && heads.iter().enumerate().all(|(i, &j)| i == j) {
            return act.shallow_clone();
        }
        let heads: Vec<i64> = heads.iter().map(|&head| head as i64).collect();
        let axis = if at.site.is_attention() { 1 } else { 2 };
        act.index_select(axis, &Tensor::from_slice(&heads).to_device(act.device()))
    }
}

fn check_table(path: &Path, field: &str, table: &[usize], n: usize, m: usize, what: &str, hint: &str) -> Result<()> {
    let problem = match table.iter().find(|&&i| i >= m) {
        _ if table.len() != n => format!("has {} entries, the edited model {n} {what}s", table.len()),
        Some(i) => format!("names {what} {i}, the donor has {what}s 0..{m}"),
        None => return Ok(()),
    };
    Err(Error::Field { path: path.into(), field: field.into(), problem, hint: Some(hint.into()) })
}

fn refuse(what: &'static str, value: &str, problem: String, hint: &str) -> Error {
    Error::Selector { what, value: value.into(), problem, hint: Some(hint.into()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(n_layers: usize, n_heads: usize, d_head: usize) -> ModelConfig {
        let json = json!({
            "model_type": "qwen2", "num_hidden_layers": n_layers, "num_attention_heads": n_heads,
            "num_key_value_heads": 2, "hidden_size": n_heads * d_head, "intermediate_size": 8, "vocab_size": 10,
        });
        ModelConfig::from_json(Path::new("config.json"), &json).unwrap()
    }

    fn relative(edited: usize, donor: usize) -> Vec<usize> {
        let (edited, donor) = (config(edited, 4, 2), config(donor, 4, 2));
        let pairs = Correspondence::new(Site::Z, &edited, &donor, Some(&LayerMap::Relative), None).unwrap();
        pairs.layers().to_vec()
    }

    #[test]
    fn relative_depth_pairs_ends_with_ends() {
        assert_eq!(relative(5, 3), [0, 1, 1, 2, 2]);
        assert_eq!(relative(3, 5), [0, 2, 4]);
        assert_eq!(relative(4, 4), [0, 1, 2, 3]);
        assert_eq!(relative(1, 6), [5]);
    }

    #[test]
    fn nothing_is_guessed() {
        let (edited, donor) = (config(3, 4, 2), config(5, 8, 4));
        let new = |layers, heads| Correspondence::new(Site::Z, &edited, &donor, layers, heads);
        let error = new(None, None).unwrap_err();
        assert_eq!(error.to_string(), "layer map `none`: the edited model has 3 layers, the donor 5");
        let error = new(Some(&LayerMap::Relative), None).unwrap_err();
        assert_eq!(error.to_string(), "head map `none`: the edited model has 4 heads at `z`, the donor 8");
        let pairs = new(Some(&LayerMap::Relative), Some(&HeadMap::Relative)).unwrap();
        assert_eq!(pairs.heads()[0], [0, 2, 4, 6]);
        for (method, name) in [(Method::Raw, "raw"), (Method::Procrustes, "procrustes")] {
            let error = pairs.check(Site::Z, method).unwrap_err();
            let says = format!("map `{name}`: `z` is 4 wide in the donor and 2 in the edited model");
            assert_eq!(error.to_string(), says);
            assert!(error.hint().unwrap().contains("--map ridge"));
        }
        assert!(pairs.check(Site::Z, Method::Ridge(1.0)).is_ok());
        let same = Correspondence::new(Site::Pattern, &edited, &edited, None, None).unwrap();
        assert!(same.check(Site::Pattern, Method::Raw).is_ok());
        let error = same.check(Site::Pattern, Method::Ridge(1.0)).unwrap_err();
        assert_eq!(error.to_string(), "map `ridge:1`: `pattern` is as wide as the prompt is long");
        assert!(!pairs.is_identity());
        assert!(Correspondence::new(Site::Z, &edited, &edited, None, None).unwrap().is_identity());
        // Keys have two heads in both.
        assert!(Correspondence::new(Site::K, &edited, &donor, Some(&LayerMap::Relative), None).is_ok());
    }

    #[test]
    fn tables_are_checked_against_both_models() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (edited, donor) = (config(3, 4, 2), config(5, 8, 2));
        let layers: LayerMap = write("layers.json", "[4, 2, 0]").parse().unwrap();
        let heads: HeadMap = write("heads.json", "[[0, 1, 2, 3], [4, 5, 6, 7], [7, 7, 7, 0]]").parse().unwrap();
        let pairs = Correspondence::new(Site::Z, &edited, &donor, Some(&layers), Some(&heads)).unwrap();
        assert_eq!(pairs.point(HookPoint::new(Site::Z, 2)), HookPoint::new(Site::Z, 0));
        let act = Tensor::arange(8, (tch::Kind::Float, tch::Device::Cpu)).view([1, 1, 8, 1]);
        let taken = Vec::<f32>::try_from(pairs.take(HookPoint::new(Site::Z, 2), &act).view([-1])).unwrap();
        assert_eq!(taken, [7.0, 7.0, 7.0, 0.0]);

        let short: LayerMap = write("short.json", "[4, 2]").parse().unwrap();
        let error = Correspondence::new(Site::Z, &edited, &donor, Some(&short), Some(&heads)).unwrap_err();
        assert!(error.to_string().ends_with("field `layers`: has 2 entries, the edited model 3 layers"), "{error}");
        let far: LayerMap = write("far.json", "[5, 2, 1]").parse().unwrap();
        let error = Correspondence::new(Site::Z, &edited, &donor, Some(&far), Some(&heads)).unwrap_err();
        assert!(error.to_string().ends_with("names layer 5, the donor has layers 0..5"), "{error}");
        let error = write("bad.json", "{\"0\": 1}").parse::<LayerMap>().unwrap_err();
        assert!(error.to_string().contains("is no list of whole numbers"), "{error}");
        assert!("nowhere".parse::<HeadMap>().unwrap_err().to_string().contains("neither `relative` nor a file"));
    }
}
