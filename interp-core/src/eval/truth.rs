//! The ground truth of a question: a JSON object of which each verifier reads its own fields. Fields that no verifier knows are
//! passed over, since question sets carry much else.

use serde_json::{Map, Value};

/// A field, and what is wrong with it.
type Wrong = (String, String);

/// What is known of the right answer. A field that is absent, null or empty is `None` or empty here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroundTruth {
    /// V1: the pathway's name, with or without the prefix of its collection.
    pub pathway: Option<String>,
    /// V1: `UP` or `DOWN`.
    pub direction: Option<String>,
    /// V1, V3: direction by tissue, in file order.
    pub tissue_directions: Option<Vec<(String, String)>>,
    /// V3: whether the tissues agree.
    pub is_consistent: bool,
    /// V3: contexts that an answer should tell apart.
    pub contexts: Option<Vec<BioContext>>,
    /// V3: what sets the contexts apart.
    pub distinction_key: Option<String>,
    /// V2: facts, in the order in which the verifier takes them.
    pub key_facts: Vec<String>,
    /// V2: the answer as one more fact.
    pub expected_answer: Option<String>,
    /// V2: steps as facts.
    pub correct_steps: Vec<String>,
    /// V2: one more fact.
    pub conservation_level: Option<String>,
    /// V4: `high`, `medium` or `low`.
    pub expected_confidence: Option<String>,
    /// V4: how the answer should behave, such as `acknowledge_unknown`.
    pub correct_behavior: Option<String>,
}

/// One context of an ambiguous term.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BioContext {
    /// Terms that an answer about this context uses.
    pub key_terms: Vec<String>,
    /// What the term does in this context.
    pub role: String,
}

impl GroundTruth {
    /// Reads the object, or a string that holds one. Errs with what is wrong with which field.
    pub fn from_value(value: &Value) -> Result<Self, Wrong> {
        let parsed;
        let map = match value {
            Value::Object(map) => map,
            Value::String(text) => {
                parsed = serde_json::from_str::<Map<String, Value>>(text)
                    .map_err(|error| ("ground_truth".to_owned(), format!("the string is no JSON object: {error}")))?;
                &parsed
            }
            other => return Err(("ground_truth".into(), format!("must be an object, found {}", kind(other)))),
        };
        let text = |name: &str| match map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(other) => Err(wrong(name, "a string", other)),
        };
        let mut key_facts = texts(map, "key_facts")?;
        key_facts.extend(texts(map, "ground_truth_key_facts")?);
        key_facts.extend(texts(map, "expected_reasoning")?);
        Ok(Self {
            pathway: text("pathway")?,
            direction: text("direction")?,
            tissue_directions: directions(map)?,
            is_consistent: match map.get("is_consistent") {
                None | Some(Value::Null) => false,
                Some(Value::Bool(yes)) => *yes,
                Some(other) => return Err(wrong("is_consistent", "true or false", other)),
            },
            contexts: contexts(map)?,
            distinction_key: text("distinction_key")?,
            key_facts,
            // Only a string is an answer to look for; lists and objects are other question sets' own.
            expected_answer: map.get("expected_answer").and_then(Value::as_str).map(str::to_owned),
            correct_steps: texts(map, "correct_steps")?,
            conservation_level: text("conservation_level")?,
            expected_confidence: text("expected_confidence")?,
            correct_behavior: text("correct_behavior")?,
        })
    }

    /// All facts for V2, each once, in order.
    pub fn facts(&self) -> Vec<&str> {
        let mut facts: Vec<&str> = Vec::new();
        let all = self.key_facts.iter().chain(&self.expected_answer).chain(&self.correct_steps);
        for fact in all.chain(&self.conservation_level) {
            if !facts.contains(&fact.as_str()) {
                facts.push(fact);
            }
        }
        facts
    }
}

fn directions(map: &Map<String, Value>) -> Result<Option<Vec<(String, String)>>, Wrong> {
    let Some(value) = map.get("tissue_directions").filter(|value| !value.is_null()) else { return Ok(None) };
    let tissues = value.as_object().ok_or_else(|| wrong("tissue_directions", "an object", value))?;
    let pair = |(tissue, way): (&String, &Value)| match way {
        Value::String(way) => Ok((tissue.clone(), way.clone())),
        other => Err(wrong(&format!("tissue_directions.{tissue}"), "a string", other)),
    };
    tissues.iter().map(pair).collect::<Result<_, _>>().map(Some)
}

fn contexts(map: &Map<String, Value>) -> Result<Option<Vec<BioContext>>, Wrong> {
    let Some(value) = map.get("contexts").filter(|value| !value.is_null()) else { return Ok(None) };
    let contexts = value.as_object().ok_or_else(|| wrong("contexts", "an object", value))?;
    let one = |(name, context): (&String, &Value)| {
        let fields = context.as_object().ok_or_else(|| wrong(&format!("contexts.{name}"), "an object", context))?;
        let role = fields.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(BioContext { key_terms: texts(fields, "key_terms")?, role })
    };
    contexts.iter().map(one).collect::<Result<_, _>>().map(Some)
}

/// A list as texts: numbers are spelled out, empty entries left out; what is no list counts as none.
fn texts(map: &Map<String, Value>, name: &str) -> Result<Vec<String>, Wrong> {
    let Some(Value::Array(list)) = map.get(name) else { return Ok(Vec::new()) };
    let text = |value: &Value| match value {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) => (!text.is_empty()).then(|| Ok(text.clone())),
        Value::Number(number) => (number.as_f64() != Some(0.0)).then(|| Ok(number.to_string())),
        other => Some(Err(wrong(name, "a list of strings", other))),
    };
    list.iter().filter_map(text).collect()
}

fn wrong(name: &str, must: &str, found: &Value) -> Wrong {
    (format!("ground_truth.{name}"), format!("must be {must}, found {}", kind(found)))
}

/// What a JSON value is, for messages.
pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_and_strings_of_objects_are_read_and_types_checked() {
        let value =
            json!({"pathway": "P", "direction": "", "mission": 3, "key_facts": ["a", "", 2], "correct_steps": ["a"]});
        let truth = GroundTruth::from_value(&value).unwrap();
        assert_eq!((truth.pathway.as_deref(), &truth.direction, truth.facts()), (Some("P"), &None, vec!["a", "2"]));
        assert_eq!(GroundTruth::from_value(&json!(value.to_string())).unwrap(), truth);
        let error = |value: Value| GroundTruth::from_value(&value).unwrap_err();
        assert_eq!(error(json!({"pathway": 3})), ("ground_truth.pathway".into(), "must be a string, found 3".into()));
        assert_eq!(error(json!([])).1, "must be an object, found a list");
        assert!(error(json!("{")).1.starts_with("the string is no JSON object: "));
        assert_eq!(error(json!({"contexts": {"x": 1}})).0, "ground_truth.contexts.x");
    }
}
