//! A checkpoint's chat template, rendered as Hugging Face transformers renders it. Knows no tokens, only text.

use std::path::{Path, PathBuf};

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, ErrorKind, State, context, escape_formatter};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

use super::spec::ChatMessage;
use crate::error::{Error, Result};

const NAME: &str = "chat template";

/// Names under which transformers hands a tokenizer's special tokens to the template.
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A template that compiled, with the special tokens it may print.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    env: Environment<'static>,
    specials: Value,
}

/// What a checkpoint offers for chat messages. A template that does not compile is reported when it is first needed,
/// so that a checkpoint with an exotic one still runs plain text.
#[derive(Debug)]
pub(super) enum Chat {
    Absent,
    Broken { path: PathBuf, problem: String },
    Ready(Box<ChatTemplate>),
}

impl Chat {
    /// Reads `chat_template.jinja`, or else the `chat_template` of a parsed `tokenizer_config.json` (a string, or a
    /// list of named templates of which `default` is taken).
    pub(super) fn from_files(config: Option<(&Path, &serde_json::Value)>, jinja: Option<&Path>) -> Result<Self> {
        let (path, source) = match (jinja, config) {
            (Some(path), _) => (path, std::fs::read_to_string(path).map_err(Error::io("read", path))?),
            (None, None) => return Ok(Self::Absent),
            (None, Some((path, config))) => match config_template(config).map_err(|problem| Error::Field {
                path: path.into(),
                field: "chat_template".into(),
                problem,
                hint: None,
            })? {
                Some(source) => (path, source),
                None => return Ok(Self::Absent),
            },
        };
        let specials = config.map(|(_, config)| special_tokens(config)).unwrap_or_default();
        Ok(match ChatTemplate::new(source, specials) {
            Ok(template) => Self::Ready(Box::new(template)),
            Err(error) => Self::Broken { path: path.into(), problem: describe(&error) },
        })
    }

    /// The conversation as text, ending in the template's generation prompt.
    pub(super) fn render(&self, messages: &[ChatMessage], place: &str) -> Result<String> {
        let refuse = |problem: String, hint: Option<String>| Error::Prompt { place: place.into(), problem, hint };
        match self {
            Self::Absent => Err(refuse(
                "the checkpoint has no chat template for `messages`".into(),
                Some("give the prompt as `text`, or put a chat_template.jinja beside the tokenizer".into()),
            )),
            Self::Broken { path, problem } => Err(Error::File {
                path: path.clone(),
                problem: format!("the chat template cannot be used: {problem}"),
                hint: Some("give the prompt as `text`, already rendered".into()),
            }),
            Self::Ready(template) => template
                .render(messages)
                .map_err(|error| refuse(format!("the chat template failed: {}", describe(&error)), None)),
        }
    }
}

impl ChatTemplate {
    fn new(source: String, specials: Value) -> Result<Self, minijinja::Error> {
        let mut env = Environment::new();
        env.set_trim_blocks(true);
        env.set_lstrip_blocks(true);
        env.set_formatter(python_formatter);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_filter("tojson", tojson);
        env.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        env.add_function("strftime_now", strftime_now);
        env.add_template_owned(NAME, source)?;
        Ok(Self { env, specials })
    }

    fn render(&self, messages: &[ChatMessage]) -> Result<String, minijinja::Error> {
        self.env.get_template(NAME)?.render(context! {
            messages => messages,
            tools => (),
            documents => (),
            add_generation_prompt => true,
            ..self.specials.clone()
        })
    }
}

fn config_template(config: &serde_json::Value) -> Result<Option<String>, String> {
    match config.get("chat_template") {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(source)) => Ok(Some(source.clone())),
        Some(serde_json::Value::Array(named)) => named
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str())
            .map(|source| Some(source.to_owned()))
            .ok_or_else(|| "none of its templates is named `default`".into()),
        Some(_) => Err("neither a string nor a list of named templates".into()),
    }
}

/// Special tokens are written as strings or as `{"content": …}`; those that are null do not exist for the template.
fn special_tokens(config: &serde_json::Value) -> Value {
    let text = |value: &serde_json::Value| value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned);
    let named = SPECIAL_TOKENS.iter().filter_map(|name| Some((*name, Value::from(text(config.get(name)?)?))));
    let additional = config["additional_special_tokens"]
        .as_array()
        .map(|list| ("additional_special_tokens", list.iter().filter_map(text).collect::<Value>()));
    named.chain(additional).collect()
}

/// One line on what went wrong, without the template's name.
fn describe(error: &minijinja::Error) -> String {
    let detail = error.detail().map(str::to_owned).unwrap_or_else(|| error.kind().to_string());
    match error.line() {
        Some(line) => format!("{detail} (line {line} of the template)"),
        None => detail,
    }
}

/// Jinja2 prints Python's `None`, `True` and `False`; and lists with Python's quotes, which no template in use relies on.
fn python_formatter(
    out: &mut minijinja::Output<'_>,
    state: &State<'_, '_>,
    value: &Value,
) -> Result<(), minijinja::Error> {
    match value.kind() {
        ValueKind::None => out.write_str("None").map_err(minijinja::Error::from),
        ValueKind::Bool => {
            out.write_str(if value.is_true() { "True" } else { "False" }).map_err(minijinja::Error::from)
        }
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => Err(minijinja::Error::new(
            ErrorKind::InvalidOperation,
            "it prints a whole list or mapping, which would differ from Python's spelling",
        )),
        _ => escape_formatter(out, state, value),
    }
}

/// transformers replaces Jinja's HTML-safe filter by `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn tojson(value: Value, kwargs: Kwargs) -> Result<Value, minijinja::Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    let ascii: Option<bool> = kwargs.get("ensure_ascii")?;
    kwargs.assert_all_used()?;
    if ascii == Some(true) {
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, "tojson: ensure_ascii=true is not supported"));
    }
    let written = match indent {
        Some(width) => write_json(&value, PrettyFormatter::with_indent(" ".repeat(width).as_bytes())),
        None => write_json(&value, PythonSeparators),
    };
    written
        .map(Value::from_safe_string)
        .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))
}

fn write_json(value: &Value, formatter: impl Formatter) -> Result<String, serde_json::Error> {
    let mut out = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// `json.dumps` on one line puts a space after `,` and `:`.
struct PythonSeparators;

impl Formatter for PythonSeparators {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

/// `datetime.now().strftime(format)`: local time through the C library, which is also what Python calls.
fn strftime_now(format: String) -> Result<String, minijinja::Error> {
    let invalid = |problem: &'static str| minijinja::Error::new(ErrorKind::InvalidOperation, problem);
    if format.is_empty() {
        return Ok(String::new());
    }
    let format = std::ffi::CString::new(format).map_err(|_| invalid("strftime_now: the format holds a NUL"))?;
    let mut out = vec![0u8; 256 + 16 * format.as_bytes().len()];
    // SAFETY: `tm` is plain data that localtime_r fills before strftime reads it, `format` is NUL-terminated, and
    // strftime writes at most `out.len()` bytes and returns how many of them precede its NUL.
    let written = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut tm: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&now, &mut tm).is_null() {
            return Err(invalid("strftime_now: the clock cannot be read"));
        }
        libc::strftime(out.as_mut_ptr().cast(), out.len(), format.as_ptr(), &tm)
    };
    out.truncate(written);
    String::from_utf8(out).map_err(|_| invalid("strftime_now: the date is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn turns(list: &[(&str, &str)]) -> Vec<ChatMessage> {
        list.iter().map(|(role, content)| ChatMessage { role: (*role).into(), content: (*content).into() }).collect()
    }

    fn render(config: serde_json::Value, messages: &[(&str, &str)]) -> Result<String> {
        Chat::from_files(Some((Path::new("tokenizer_config.json"), &config)), None)?.render(&turns(messages), "t1")
    }

    #[test]
    fn blocks_and_newlines_are_trimmed_as_jinja_is_told_to() {
        let source = "{% for m in messages %}\n  {% if m.role == 'user' %}\n{{ m.content }}|\n  {% endif %}\n{% endfor %}\nend\n";
        let text = render(json!({"chat_template": source}), &[("user", " a "), ("system", "x"), ("user", "b\n")]);
        assert_eq!(text.unwrap(), " a |\nb\n|\nend");
    }

    #[test]
    fn special_tokens_python_methods_and_values_print_as_in_python() {
        let config = json!({
            "bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": null,
            "additional_special_tokens": ["<a>", {"content": "<b>"}],
            "chat_template": "{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ tools }}{{ tools is none }}\
                {{ messages[0]['content'].strip().upper() }}{{ messages[0].tool_calls }}{{ additional_special_tokens|length }}\
                {% for i in range(3) %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}{{ add_generation_prompt }}",
        });
        assert_eq!(render(config, &[("user", " hi ")]).unwrap(), "<s></s>FalseNoneTrueHI20True");
    }

    /// What the templates of Qwen, Llama and Mistral use; the expected text is Jinja2's.
    #[test]
    fn constructs_of_real_templates_give_jinja2s_text() {
        let source = "\
{%- set ns = namespace(last=-1) %}
{% macro turn(m, sep='|') -%}
  <{{ m.role }}{{ sep }}{{ m['content'] }}>
{%- endmacro %}
{% for m in messages[::-1] %}
    {% if m.role == 'user' and ns.last < 0 %}{% set ns.last = messages|length - 1 - loop.index0 %}{% endif %}
{% endfor %}
{{ ns.last }}{% for m in messages[1:] if m.role != 'tool' %}
    {{ turn(m) }}{{ loop.index }}/{{ loop.length }}{{ loop.previtem.role if loop.previtem is defined else '-' }}
{% endfor %}
{{ messages | map(attribute='role') | join(',') }} {{ messages|selectattr('role','equalto','user')|list|length }}
{{ (messages|last).content.replace('a','b').title() }} {{ 7 // 2 }} {{ -7 % 3 }} {{ 'x' * 3 }} {{ 'a' ~ 1 ~ none }}
{{ '<think>q</think>\\n\\nr'.split('</think>')[-1].lstrip('\\n') }} {{ messages[0].get('x', 'd') }} {{ 'role' in messages[0] }}
{# comment #}
   {%- if true -%}  y  {%- endif %}
tail
";
        let messages = [("system", " Sys "), ("user", " a "), ("assistant", "é<>&"), ("user", "\na b")];
        let expected = "3    <user| a >1/3-\n    <assistant|é<>&>2/3user\n    <user|\na b>3/3assistant\n\
                        system,user,assistant,user 2\n\nB B 3 2 xxx a1None\nr d True\nytail";
        assert_eq!(render(json!({"chat_template": source}), &messages).unwrap(), expected);
    }

    #[test]
    fn tojson_is_pythons() {
        let config = json!({"chat_template": "{{ messages | tojson }}\n{{ [1, 'é'] | tojson(indent=2) }}"});
        let text = render(config, &[("user", "<é> & \"q\"")]).unwrap();
        assert_eq!(text, "[{\"role\": \"user\", \"content\": \"<é> & \\\"q\\\"\"}]\n[\n  1,\n  \"é\"\n]");
    }

    #[test]
    fn strftime_now_gives_the_year() {
        let text = render(json!({"chat_template": "{{ strftime_now('%Y-%m-%d') }}"}), &[]).unwrap();
        assert!(text.len() == 10 && text.as_str() > "2024-01-01", "{text}");
    }

    #[test]
    fn the_default_of_several_templates_is_taken_and_a_file_goes_before_all() {
        let config =
            json!({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]});
        assert_eq!(render(config.clone(), &[]).unwrap(), "D");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{{ messages[0].content }}F\n").unwrap();
        let chat = Chat::from_files(Some((Path::new("c"), &config)), Some(file.path())).unwrap();
        assert_eq!(chat.render(&turns(&[("user", "x")]), "t1").unwrap(), "xF");
        let error = render(json!({"chat_template": [{"name": "rag", "template": "R"}]}), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tokenizer_config.json: field `chat_template`: none of its templates is named `default`"
        );
    }

    #[test]
    fn what_cannot_be_rendered_is_said() {
        assert_eq!(
            render(json!({}), &[]).unwrap_err().to_string(),
            "t1: the checkpoint has no chat template for `messages`"
        );
        assert_eq!(
            render(json!({"chat_template": "\n{{ raise_exception('roles must alternate') }}"}), &[])
                .unwrap_err()
                .to_string(),
            "t1: the chat template failed: roles must alternate (line 2 of the template)"
        );
        assert_eq!(
            render(json!({"chat_template": "{{ messages }}"}), &[]).unwrap_err().to_string(),
            "t1: the chat template failed: it prints a whole list or mapping, which would differ from Python's spelling \
             (line 1 of the template)"
        );
        let error = render(json!({"chat_template": "{% generation %}x{% endgeneration %}"}), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tokenizer_config.json: the chat template cannot be used: unknown statement generation (line 1 of the template)"
        );
    }
}
