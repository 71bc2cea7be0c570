//! `adapter_config.json` to what it says of the modules: every field is honoured, or refused by name. Knows no model.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::pattern::Pattern;
use crate::config::fields::{Fields, says_nothing, short};
use crate::error::{Error, Result};

/// A LoRA configuration as peft writes it, all of it understood.
#[derive(Debug)]
pub struct LoraConfig {
    pub(super) path: PathBuf,
    /// The file's content, for messages.
    pub(super) json: Value,
    pub(super) base_model: Option<String>,
    pub(super) rank: usize,
    pub(super) alpha: f64,
    /// In the file's order: the first that fits wins.
    pub(super) rank_pattern: Vec<(Pattern, usize)>,
    pub(super) alpha_pattern: Vec<(Pattern, f64)>,
    pub(super) rslora: bool,
    pub(super) dora: bool,
    pub(super) lora_bias: bool,
    pub(super) bias: BaseBias,
    pub(super) targets: Modules,
    pub(super) exclude: Option<Modules>,
    pub(super) layers: Option<Layers>,
    pub(super) modules_to_save: Vec<(String, Pattern)>,
    pub(super) ensure_weight_tying: bool,
    warnings: Vec<String>,
}

/// Which biases of the base were trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BaseBias {
    None,
    /// Those of the modules that have a delta.
    LoraOnly,
    All,
}

/// How modules are named.
#[derive(Debug)]
pub(super) enum Modules {
    /// Names, or ends of names from a dot on.
    Names(Vec<String>),
    /// A regular expression for the whole name.
    Regex(Pattern),
    /// All linear maps but the unembedding.
    AllLinear,
}

/// `layers_to_transform`, and where a name has the number of its layer.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) indices: Vec<u64>,
    /// The first that fits says the number.
    pub(super) patterns: Vec<Pattern>,
}

const MERGE: &str =
    "merge it with peft's merge_and_unload, save that model, and give its folder instead of the adapter";
const NO_WAY: &str = "give a plain LoRA adapter: this one depends on more than the module's input";

/// Fields that change the computation in ways that are not implemented: what they do, and the remedy.
const VARIANTS: [(&str, &str, &str); 11] = [
    ("layer_replication", "rebuilds the stack of layers, so that layers have other numbers", MERGE),
    ("trainable_token_indices", "changes single rows of the embedding", MERGE),
    ("target_parameters", "changes parameters that are not linear maps", MERGE),
    ("use_qalora", "pools the input in groups before A", MERGE),
    ("alora_invocation_tokens", "acts only after certain tokens of the prompt", NO_WAY),
    ("arrow_config", "routes every token between adapters", NO_WAY),
    ("use_bdlora", "makes A or B block-diagonal", MERGE),
    ("lora_ga_config", "changed the base's weights before training", CONVERT),
    ("monteclora_config", "samples A", NO_WAY),
    ("velora_config", "is a variant that is not implemented", MERGE),
    ("kasa_config", "puts singular values between A and B", MERGE),
];

const CONVERT: &str =
    "convert it in peft: save_pretrained(DIR, path_initial_model_for_weight_conversion=INITIAL_ADAPTER)";

/// Ways to initialise A and B that leave the base as it was.
const PLAIN_INIT: [&str; 3] = ["gaussian", "orthogonal", "eva"];
/// Ways to initialise that changed the base's weights too.
const CHANGED_BASE: [&str; 4] = ["olora", "corda", "loftq", "lora_ga"];

/// Fields of training and bookkeeping.
#[rustfmt::skip]
const BENIGN: &[&str] = &[
    "auto_mapping", "corda_config", "eva_config", "inference_mode", "loftq_config", "lora_dropout", "megatron_core",
    "peft_version", "qalora_group_size", "revision", "runtime_config",
];

impl LoraConfig {
    /// Reads an `adapter_config.json`. Absent fields take peft's defaults.
    ///
    /// Errs on unreadable files and broken JSON, and, naming field, value and remedy, on everything that is no LoRA, that is
    /// a variant of LoRA not implemented here, and that is not understood.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let json: Value =
            serde_json::from_str(&text).map_err(|source| Error::Json { path: path.into(), line: None, source })?;
        let fields = Fields::top(path, &json)?;
        refuse_other_kinds(&fields)?;
        let mut warnings = Vec::new();
        match fields.text("task_type")? {
            None | Some("CAUSAL_LM") => {}
            Some(other) => warnings.push(format!("the adapter was trained for {other}, not for CAUSAL_LM")),
        }
        if fields.get("megatron_config").is_some_and(|value| !says_nothing(value)) {
            warnings.push("`megatron_config` is set, and ignored".into());
        }
        let config = Self {
            path: path.into(),
            base_model: fields.text("base_model_name_or_path")?.map(str::to_owned),
            rank: fields.positive("r", 8)?,
            alpha: fields.number("lora_alpha")?.unwrap_or(8.0),
            rank_pattern: patterns(&fields, "rank_pattern", "a whole number of at least 1", |value| {
                value.as_u64().filter(|&n| n >= 1 && n <= i32::MAX as u64).map(|n| n as usize)
            })?,
            alpha_pattern: patterns(&fields, "alpha_pattern", "a number above zero", |value| {
                value.as_f64().filter(|&n| n.is_finite() && n > 0.0)
            })?,
            rslora: fields.flag("use_rslora", false)?,
            dora: fields.flag("use_dora", false)?,
            lora_bias: fields.flag("lora_bias", false)?,
            bias: base_bias(&fields)?,
            // peft's default for every family that can be read here.
            targets: modules(&fields, "target_modules")?
                .unwrap_or_else(|| Modules::Names(["q_proj", "v_proj"].map(str::to_owned).into())),
            exclude: modules(&fields, "exclude_modules")?,
            layers: layers(&fields)?,
            modules_to_save: modules_to_save(&fields)?,
            ensure_weight_tying: fields.flag("ensure_weight_tying", false)?,
            warnings: Vec::new(),
            json: Value::Null,
        };
        if config.dora && config.lora_bias {
            return Err(fields.refuse("lora_bias", "cannot be together with `use_dora`", None));
        }
        for (key, value) in fields.unread(BENIGN) {
            if !says_nothing(value) {
                let problem = format!("is not understood, and its value {} may change the computation", short(value));
                return Err(fields.refuse(key, problem, Some(MERGE.into())));
            }
            warnings.push(format!("`{key}` of adapter_config.json is not known, and ignored: it is {}", short(value)));
        }
        Ok(Self { json: json.clone(), warnings, ..config })
    }

    /// The base model's name or path at training time. It may be one of another machine.
    pub fn base_model(&self) -> Option<&str> {
        self.base_model.as_deref()
    }

    /// What is worth knowing and no error.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// An error about a field, with the value that it has.
    pub(super) fn refuse(&self, field: &str, problem: &str, hint: impl Into<String>) -> Error {
        let value = self.json.get(field).map_or_else(|| "absent".into(), short);
        Error::Field {
            path: self.path.clone(),
            field: field.into(),
            problem: format!("{value} {problem}"),
            hint: Some(hint.into()),
        }
    }
}

/// Errs unless this is plain LoRA, or DoRA.
fn refuse_other_kinds(fields: &Fields<'_>) -> Result<()> {
    match fields.text("peft_type")? {
        Some("LORA") => {}
        found => {
            let problem = found.map_or("is missing".into(), |found| format!("is {found:?}, not \"LORA\""));
            return Err(fields.refuse("peft_type", problem, Some(MERGE.into())));
        }
    }
    for (field, what, remedy) in VARIANTS {
        if let Some(value) = fields.get(field).filter(|value| !says_nothing(value)) {
            let problem = format!("is {}, which {what}; that is not supported", short(value));
            return Err(fields.refuse(field, problem, Some(remedy.into())));
        }
    }
    if fields.flag("fan_in_fan_out", false)? {
        let problem = "is true: the adapter belongs to a model whose weights are stored as [d_in, d_out]";
        let hint = "if it was trained on a model of linear layers, as peft warns then, set it to false";
        return Err(fields.refuse("fan_in_fan_out", problem, Some(hint.into())));
    }
    init(fields)
}

fn init(fields: &Fields<'_>) -> Result<()> {
    let (problem, hint) = match fields.get("init_lora_weights") {
        None | Some(Value::Null | Value::Bool(_)) => return Ok(()),
        Some(Value::String(text)) => {
            let name = text.to_lowercase();
            if PLAIN_INIT.contains(&name.as_str()) {
                return Ok(());
            } else if name.starts_with("pissa") || CHANGED_BASE.contains(&name.as_str()) {
                (format!("is {text:?}, which changed the base's weights before training"), CONVERT)
            } else {
                (format!("is {text:?}, which is not known: it may have changed the base's weights"), MERGE)
            }
        }
        Some(other) => return Err(fields.wrong("init_lora_weights", "true, false or a name", other)),
    };
    Err(fields.refuse("init_lora_weights", problem, Some(hint.into())))
}

fn base_bias(fields: &Fields<'_>) -> Result<BaseBias> {
    match fields.text("bias")? {
        None | Some("none") => Ok(BaseBias::None),
        Some("lora_only") => Ok(BaseBias::LoraOnly),
        Some("all") => Ok(BaseBias::All),
        Some(other) => Err(fields.refuse(
            "bias",
            format!("is {other:?}; peft knows \"none\", \"lora_only\" and \"all\""),
            Some("take the adapter_config.json that was saved with the tensors".into()),
        )),
    }
}

/// `target_modules` or `exclude_modules`; `None` when absent, null or empty.
fn modules(fields: &Fields<'_>, field: &str) -> Result<Option<Modules>> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if field == "target_modules" && text.eq_ignore_ascii_case("all-linear") => {
            Ok(Some(Modules::AllLinear))
        }
        Some(Value::String(text)) if text.is_empty() && field != "target_modules" => Ok(None),
        Some(Value::String(text)) => Pattern::whole(fields, field, text).map(|regex| Some(Modules::Regex(regex))),
        Some(list) => Ok(Some(Modules::Names(names(fields, field, list)?))),
    }
}

fn modules_to_save(fields: &Fields<'_>) -> Result<Vec<(String, Pattern)>> {
    let names = match fields.get("modules_to_save") {
        None | Some(Value::Null) => Vec::new(),
        Some(list) => names(fields, "modules_to_save", list)?,
    };
    names
        .into_iter()
        .map(|name| Pattern::part(fields, "modules_to_save", &name).map(|pattern| (name, pattern)))
        .collect()
}

fn layers(fields: &Fields<'_>) -> Result<Option<Layers>> {
    let wrong = |value| fields.wrong("layers_to_transform", "a layer's number or a list of them", value);
    let indices = match fields.get("layers_to_transform") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => {
            list.iter().map(|value| value.as_u64().ok_or_else(|| wrong(value))).collect::<Result<_>>()?
        }
        Some(one) => vec![one.as_u64().ok_or_else(|| wrong(one))?],
    };
    let parts = match fields.get("layers_pattern") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(list) => names(fields, "layers_pattern", list)?,
    };
    let given = [("layers_to_transform", !indices.is_empty()), ("layers_pattern", !parts.is_empty())];
    if let Some(Value::String(_)) = fields.get("target_modules")
        && let Some((field, _)) = given.iter().find(|(_, given)| *given)
    {
        let hint = "put the layers into the expression, or list the modules";
        return Err(fields.refuse(field, "has no meaning where `target_modules` is a string", Some(hint.into())));
    }
    if indices.is_empty() {
        return match parts.is_empty() {
            true => Ok(None),
            false => Err(fields.refuse(
                "layers_pattern",
                "is set, but `layers_to_transform` is not",
                Some("take the adapter_config.json that was saved with the tensors".into()),
            )),
        };
    }
    let pattern = |text: Option<&str>| Pattern::before_layer(fields, "layers_pattern", text);
    let patterns = match parts.is_empty() {
        true => vec![pattern(None)?],
        false => parts.iter().map(|part| pattern(Some(part))).collect::<Result<_>>()?,
    };
    Ok(Some(Layers { indices, patterns }))
}

fn names(fields: &Fields<'_>, field: &str, value: &Value) -> Result<Vec<String>> {
    let names = value.as_array().and_then(|list| list.iter().map(|name| name.as_str().map(str::to_owned)).collect());
    names.ok_or_else(|| fields.wrong(field, "a list of names", value))
}

/// An object from patterns to numbers.
fn patterns<T>(
    fields: &Fields<'_>,
    field: &str,
    expected: &str,
    number: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<(Pattern, T)>> {
    let object = match fields.get(field) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(object)) => object,
        Some(other) => return Err(fields.wrong(field, "an object", other)),
    };
    let pair = |(key, value): (&String, &Value)| {
        let at = format!("{field}.{key}");
        let number = number(value).ok_or_else(|| fields.wrong(&at, expected, value))?;
        Ok((Pattern::end(fields, &at, key)?, number))
    };
    object.iter().map(pair).collect()
}
