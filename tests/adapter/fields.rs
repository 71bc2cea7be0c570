//! Fields of `adapter_config.json`: what each does, and which values are refused.

use serde_json::{Value, json};

use super::{Edited, message, model};
use interp_core::adapter::LoraConfig;

/// Numbers per rank of a tiny model's maps, in one layer: q, k, v, o, gate, up, down.
const Q: u64 = 96;
const K: u64 = 64;
const MLP: u64 = 128;
const ALL: u64 = 2 * Q + 2 * K + 3 * MLP;

fn plain() -> Edited {
    let mut edited = Edited::of("qwen2-plain");
    edited.set("r", json!(1));
    edited
}

/// What the configuration reaches, by its numbers in A and B.
fn reaches(fields: Value) -> u64 {
    let mut edited = plain();
    for (field, value) in fields.as_object().expect("fields") {
        edited.set(field, value.clone());
    }
    edited.n_params("qwen2").unwrap_or_else(|error| panic!("{fields}: {error}"))
}

#[test]
fn modules_are_matched_as_peft_does() {
    for (fields, n_params) in [
        (json!({}), 3 * ALL),
        // A list: whole names, or ends from a dot on.
        (json!({"target_modules": ["q_proj"]}), 3 * Q),
        (json!({"target_modules": ["self_attn.q_proj", "model.layers.1.mlp.up_proj"]}), 3 * Q + MLP),
        (json!({"target_modules": ["1.self_attn.q_proj"]}), Q),
        (json!({"target_modules": ["proj", "_proj", "up_proj"]}), 3 * MLP),
        // A string: Python's fullmatch, with lookarounds and backreferences.
        (json!({"target_modules": ".*q_proj"}), 3 * Q),
        (json!({"target_modules": r".*\.(0|2)\.self_attn\.(?!k|v|o).*_proj"}), 2 * Q),
        (json!({"target_modules": r".*\.(?P<part>up|down)_proj|.*\.(?P<other>q)_proj"}), 3 * (2 * MLP + Q)),
        (json!({"target_modules": "all-linear"}), 3 * ALL),
        (json!({"target_modules": "ALL-LINEAR"}), 3 * ALL),
        // The default of every family that can be read.
        (json!({"target_modules": null}), 3 * (Q + K)),
        // Exclusion, which wins.
        (json!({"exclude_modules": ["up_proj", "1.self_attn.q_proj"]}), 3 * ALL - 3 * MLP - Q),
        (json!({"exclude_modules": r".*mlp.*"}), 3 * (2 * Q + 2 * K)),
        (json!({"target_modules": "all-linear", "exclude_modules": r".*\.1\..*"}), 2 * ALL),
        (json!({"exclude_modules": []}), 3 * ALL),
        (json!({"exclude_modules": ""}), 3 * ALL),
        // Layers.
        (json!({"layers_to_transform": 1}), ALL),
        (json!({"layers_to_transform": [0, 2]}), 2 * ALL),
        (json!({"layers_to_transform": []}), 3 * ALL),
        (json!({"layers_to_transform": [0], "layers_pattern": "layers"}), ALL),
        (json!({"layers_to_transform": [0], "layers_pattern": ["h", "layers"]}), ALL),
        (json!({"layers_to_transform": [0], "layers_pattern": ""}), ALL),
        // Modules saved whole get no LoRA, by whole parts of their names.
        (json!({"target_modules": "all-linear", "modules_to_save": ["lm_head"]}), 3 * ALL),
        // Ranks: the first key that fits, by the end of the name; a key is an expression.
        (json!({"rank_pattern": {"q_proj": 3}}), 3 * ALL + 3 * 2 * Q),
        (json!({"rank_pattern": {"q_proj": 3, "1.self_attn.q_proj": 9}}), 3 * ALL + 3 * 2 * Q),
        (json!({"rank_pattern": {"1.self_attn.q_proj": 9, "q_proj": 3}}), 3 * ALL + 8 * Q + 2 * 2 * Q),
        (json!({"rank_pattern": {"_proj": 3, "proj": 9}}), 3 * ALL),
        (json!({"rank_pattern": {".*_proj": 2}}), 6 * ALL),
        (json!({"rank_pattern": {"q_proj|k_proj": 2}}), 3 * (ALL + Q + K)),
        (json!({"rank_pattern": {"^model.layers.0.*up_proj": 2}}), 3 * ALL + MLP),
        (json!({"rank_pattern": {"^layers.0.*up_proj": 2}}), 3 * ALL),
        (json!({"rank_pattern": {"layers.0.*up_proj": 2}}), 3 * ALL + MLP),
    ] {
        assert_eq!(reaches(fields.clone()), n_params, "{fields}");
    }
}

#[test]
fn bookkeeping_is_passed_over_and_oddities_are_warned_about() {
    let warnings = |field: &str, value: Value| {
        let mut edited = plain();
        edited.set(field, value);
        let config = LoraConfig::from_file(&edited.write().join("adapter_config.json")).expect("reads");
        config.n_params(&model("qwen2")).expect("counts");
        config.warnings().to_vec()
    };
    for (field, value) in [
        ("lora_dropout", json!(0.5)),
        ("inference_mode", json!(false)),
        ("base_model_name_or_path", json!("somewhere/else")),
        ("revision", json!("main")),
        ("peft_version", json!("9.9.9")),
        ("auto_mapping", json!({"base_model_class": "Qwen2ForCausalLM"})),
        ("qalora_group_size", json!(16)),
        ("megatron_core", json!("megatron.core")),
        ("loftq_config", json!({"loftq_bits": 4})),
        ("eva_config", json!({"rho": 2.0})),
        ("corda_config", json!({"corda_method": "ipm"})),
        ("runtime_config", json!({"ephemeral_gpu_offload": true})),
        ("ensure_weight_tying", json!(true)),
        ("init_lora_weights", json!(false)),
        ("init_lora_weights", json!("gaussian")),
        ("init_lora_weights", json!("orthogonal")),
        ("init_lora_weights", json!("eva")),
        ("trainable_token_indices", json!([])),
        ("task_type", json!(null)),
        ("bias", json!("none")),
    ] {
        assert!(warnings(field, value.clone()).is_empty(), "{field} {value}");
    }
    for (field, value, warning) in [
        ("task_type", json!("SEQ_CLS"), "the adapter was trained for SEQ_CLS, not for CAUSAL_LM"),
        ("megatron_config", json!({"a": 1}), "`megatron_config` is set, and ignored"),
        (
            "use_later_idea",
            json!(false),
            "`use_later_idea` of adapter_config.json is not known, and ignored: it is false",
        ),
        ("later_config", json!({}), "`later_config` of adapter_config.json is not known, and ignored: it is {}"),
    ] {
        assert_eq!(warnings(field, value), [warning]);
    }
}

#[test]
fn absent_fields_take_pefts_defaults() {
    let mut edited = plain();
    edited.config = json!({"peft_type": "LORA"});
    assert_eq!(edited.n_params("qwen2").expect("counts"), 8 * 3 * (Q + K));
    let mut edited = Edited::of("qwen2-plain");
    let fields = edited.config.as_object_mut().expect("fields");
    fields.retain(|key, _| ["peft_type", "r", "target_modules"].contains(&key.as_str()));
    let adapter = edited.open("qwen2").expect("opens");
    assert!(adapter.deltas().values().all(|delta| delta.scale == 4.0), "α is 8 and r 2");
}

#[test]
fn what_is_not_plain_lora_is_refused_by_name() {
    const MERGE: &str =
        "merge it with peft's merge_and_unload, save that model, and give its folder instead of the adapter";
    const CONVERT: &str =
        "convert it in peft: save_pretrained(DIR, path_initial_model_for_weight_conversion=INITIAL_ADAPTER)";
    const NO_WAY: &str = "give a plain LoRA adapter: this one depends on more than the module's input";
    const TAKE: &str = "take the adapter_config.json that was saved with the tensors";
    let changed = |name: &str| format!("is \"{name}\", which changed the base's weights before training");
    let variant = |value: &str, what: &str| format!("is {value}, which {what}; that is not supported");
    for (field, value, problem, hint) in [
        ("peft_type", json!("IA3"), "is \"IA3\", not \"LORA\"".to_owned(), MERGE),
        ("peft_type", json!(null), "is missing".into(), MERGE),
        ("init_lora_weights", json!("pissa"), changed("pissa"), CONVERT),
        ("init_lora_weights", json!("pissa_niter_16"), changed("pissa_niter_16"), CONVERT),
        ("init_lora_weights", json!("olora"), changed("olora"), CONVERT),
        ("init_lora_weights", json!("corda"), changed("corda"), CONVERT),
        ("init_lora_weights", json!("loftq"), changed("loftq"), CONVERT),
        ("init_lora_weights", json!("lora_ga"), changed("lora_ga"), CONVERT),
        (
            "init_lora_weights",
            json!("new"),
            "is \"new\", which is not known: it may have changed the base's weights".into(),
            MERGE,
        ),
        (
            "fan_in_fan_out",
            json!(true),
            "is true: the adapter belongs to a model whose weights are stored as [d_in, d_out]".into(),
            "if it was trained on a model of linear layers, as peft warns then, set it to false",
        ),
        (
            "layer_replication",
            json!([[0, 2], [1, 3]]),
            variant("[[0,2],[1,3]]", "rebuilds the stack of layers, so that layers have other numbers"),
            MERGE,
        ),
        ("trainable_token_indices", json!([5]), variant("[5]", "changes single rows of the embedding"), MERGE),
        (
            "target_parameters",
            json!(["mlp.experts"]),
            variant("[\"mlp.experts\"]", "changes parameters that are not linear maps"),
            MERGE,
        ),
        ("use_qalora", json!(true), variant("true", "pools the input in groups before A"), MERGE),
        ("alora_invocation_tokens", json!([1]), variant("[1]", "acts only after certain tokens of the prompt"), NO_WAY),
        ("arrow_config", json!({"top_k": 3}), variant("{\"top_k\":3}", "routes every token between adapters"), NO_WAY),
        ("use_bdlora", json!({"nblocks": 2}), variant("{\"nblocks\":2}", "makes A or B block-diagonal"), MERGE),
        (
            "lora_ga_config",
            json!({"scale": "unit"}),
            variant("{\"scale\":\"unit\"}", "changed the base's weights before training"),
            CONVERT,
        ),
        ("monteclora_config", json!({"a": 1}), variant("{\"a\":1}", "samples A"), NO_WAY),
        ("velora_config", json!({"a": 1}), variant("{\"a\":1}", "is a variant that is not implemented"), MERGE),
        ("kasa_config", json!({"a": 1}), variant("{\"a\":1}", "puts singular values between A and B"), MERGE),
        (
            "use_later_idea",
            json!(true),
            "is not understood, and its value true may change the computation".into(),
            MERGE,
        ),
        ("bias", json!("some"), "is \"some\"; peft knows \"none\", \"lora_only\" and \"all\"".into(), TAKE),
        ("r", json!(0), "must be a whole number of at least 1, found 0".into(), "none"),
        ("lora_alpha", json!("x"), "must be a number above zero, found \"x\"".into(), "none"),
        ("use_rslora", json!("yes"), "must be true or false, found \"yes\"".into(), "none"),
        ("target_modules", json!(7), "must be a list of names, found 7".into(), "none"),
        ("target_modules", json!(["q_proj", 7]), "must be a list of names, found [\"q_proj\",7]".into(), "none"),
        ("rank_pattern", json!([]), "must be an object, found []".into(), "none"),
        ("layers_to_transform", json!([0, -1]), "must be a layer's number or a list of them, found -1".into(), "none"),
        ("layers_pattern", json!("layers"), "is set, but `layers_to_transform` is not".into(), TAKE),
    ] {
        let mut edited = plain();
        let error = edited.set(field, value).open("qwen2").expect_err(field);
        let expected = format!("DIR/adapter_config.json: field `{field}`: {problem}\nhint: {hint}");
        assert_eq!(message(&error, edited.dir.path()), expected);
    }
}

#[test]
fn targets_that_cannot_be_are_refused() {
    let maps = "self_attn.q_proj, self_attn.k_proj, self_attn.v_proj, self_attn.o_proj, mlp.gate_proj, mlp.up_proj, \
                mlp.down_proj";
    let none = format!("the model's linear maps are {maps}, in 3 layers");
    let whole =
        |name: &str| format!("train it whole (`modules_to_save`: [\"{name}\"]), or merge with peft's merge_and_unload");
    let embedding = "LoRA on the embedding or the unembedding is not supported";
    let merge = "merge with peft's merge_and_unload, save that model, and give its folder instead";
    let only = "only norms, embed_tokens and lm_head can be replaced whole";
    for (fields, at, problem, hint) in [
        (
            json!({"target_modules": ["q_proj", "lm_head"]}),
            "target_modules",
            format!("[\"q_proj\",\"lm_head\"] reaches `lm_head`: {embedding}"),
            whole("lm_head"),
        ),
        (
            json!({"target_modules": ".*embed_tokens"}),
            "target_modules",
            format!("\".*embed_tokens\" reaches `model.embed_tokens`: {embedding}"),
            whole("embed_tokens"),
        ),
        (
            json!({"target_modules": ["c_attn"]}),
            "target_modules",
            "[\"c_attn\"] reaches no module of this model".into(),
            none.clone(),
        ),
        (json!({"target_modules": []}), "target_modules", "[] reaches no module of this model".into(), none),
        (
            json!({"target_modules": "(q_proj"}),
            "target_modules",
            "`(q_proj` is not a regular expression that can be read: ".into(),
            "name the modules instead, in a list".into(),
        ),
        (
            json!({"target_modules": ".*q_proj", "layers_to_transform": [0]}),
            "layers_to_transform",
            "has no meaning where `target_modules` is a string".into(),
            "put the layers into the expression, or list the modules".into(),
        ),
        (
            json!({"target_modules": ".*q_proj", "layers_pattern": "layers"}),
            "layers_pattern",
            "has no meaning where `target_modules` is a string".into(),
            "put the layers into the expression, or list the modules".into(),
        ),
        (
            json!({"modules_to_save": ["mlp"]}),
            "modules_to_save",
            format!("[\"mlp\"] reaches `model.layers.0.mlp`: {only}"),
            merge.into(),
        ),
        (
            json!({"target_modules": ["k_proj"], "modules_to_save": ["q_proj"]}),
            "modules_to_save",
            format!("[\"q_proj\"] reaches `model.layers.0.self_attn.q_proj`: {only}"),
            merge.into(),
        ),
        (
            json!({"modules_to_save": ["score"]}),
            "modules_to_save",
            "[\"score\"] names `score`, which this model has not".into(),
            "the adapter belongs to another kind of model".into(),
        ),
        (
            json!({"rank_pattern": {"q_proj": 1.5}}),
            "rank_pattern.q_proj",
            "must be a whole number of at least 1, found 1.5".into(),
            "none".into(),
        ),
        (
            json!({"alpha_pattern": {"q_proj": 0}}),
            "alpha_pattern.q_proj",
            "must be a number above zero, found 0".into(),
            "none".into(),
        ),
        (
            json!({"use_dora": true, "lora_bias": true}),
            "lora_bias",
            "cannot be together with `use_dora`".into(),
            "none".into(),
        ),
    ] {
        let mut edited = plain();
        for (field, value) in fields.as_object().expect("fields") {
            edited.set(field, value.clone());
        }
        let error = edited.open("qwen2").expect_err(&problem);
        let found = message(&error, edited.dir.path());
        let (start, end) = (format!("DIR/adapter_config.json: field `{at}`: {problem}"), format!("\nhint: {hint}"));
        assert!(found.starts_with(&start) && found.ends_with(&end), "{found}\nis not\n{start}{end}");
    }
}
