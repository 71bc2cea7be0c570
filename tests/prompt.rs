//! The real Qwen2.5 tokenizer and chat template, where `shared/data` is there, against ids published or computed for them.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use interp_core::prompt::{PromptReader, PromptSpec, Tokenizer};
use interp_core::trial::{TrialFile, TrialOptions};

/// Embedding rows of Qwen2.5-7B.
const D_VOCAB: usize = 152_064;

/// `INTERP_SHARED`, or the folder `shared` beside the repository. Nothing in it belongs to the repository.
fn qwen_folder() -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a workspace");
    let shared = std::env::var_os("INTERP_SHARED").map_or_else(|| repository.join("../shared"), PathBuf::from);
    let folder = shared.join("data/qwen2.5-tokenizer");
    folder.join("tokenizer.json").is_file().then_some(folder)
}

/// The tokenizer and its folder, or a plain word that the test skips.
fn qwen() -> Option<(Tokenizer, PathBuf)> {
    let Some(folder) = qwen_folder() else {
        eprintln!("SKIPPED: no Qwen2.5 tokenizer in shared/data (set INTERP_SHARED to the folder that holds data/)");
        return None;
    };
    let tokenizer = Tokenizer::from_files(
        &folder.join("tokenizer.json"),
        Some(&folder.join("tokenizer_config.json")),
        Some(&folder.join("chat_template.jinja")),
    );
    Some((tokenizer.unwrap(), folder))
}

fn reader(tokenizer: &Tokenizer) -> PromptReader<'_> {
    PromptReader { tokenizer: Some(tokenizer), d_vocab: D_VOCAB, n_ctx: 32_768 }
}

fn spec(json: serde_json::Value) -> PromptSpec {
    serde_json::from_value(json).unwrap()
}

#[test]
fn qwen_prompts_have_the_published_ids() {
    let Some((tokenizer, folder)) = qwen() else { return };
    assert_eq!(tokenizer.vocab_size(), 151_665);
    tokenizer.check_against(D_VOCAB, &folder).unwrap();
    let prompt = reader(&tokenizer).prompt(&PromptSpec::text("la^li^la\nte^to^te\nhi^ha^"), "t").unwrap();
    let ids = [4260, 61, 742, 61, 4260, 198, 665, 61, 983, 61, 665, 198, 6023, 61, 4223, 61];
    assert_eq!(prompt.tokens, ids, "and no BOS");
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "la^li^la\nte^to^te\nhi^ha^");
    assert_eq!(tokenizer.token_text(198), "\n");
    let newline_tokens = (0..151_643).filter(|&id| tokenizer.token_text(id).starts_with('\n')).count();
    assert_eq!(newline_tokens, 34);
}

#[test]
fn qwen_verdicts_have_the_published_ids() {
    let Some((tokenizer, _)) = qwen() else { return };
    for (text, ids) in [
        (" compliant", &[48698][..]),
        (" non-compliant", &[2477, 11476, 59852]),
        ("compliant", &[874, 59852]),
        ("non-compliant", &[6280, 11476, 59852]),
        ("Compliant", &[1092, 59852]),
        ("Non-compliant", &[8121, 11476, 59852]),
        ("FINAL ANSWER:", &[98848, 96704, 640, 25]),
    ] {
        assert_eq!(tokenizer.encode(text, true).unwrap(), ids, "{text:?}");
    }
}

#[test]
fn qwen_has_the_published_english_words() {
    let Some((tokenizer, folder)) = qwen() else { return };
    let mut words: Vec<String> = (0..151_643)
        .map(|id| tokenizer.token_text(id))
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic()))
        .collect();
    words.sort();
    let published = std::fs::read_to_string(folder.join("english_vocab.txt")).unwrap();
    let mut published: Vec<&str> = published.lines().collect();
    published.sort();
    assert_eq!(words.len(), 27_376);
    assert_eq!(words, published);

    let caret = tokenizer.encode("^", false).unwrap();
    let is_stable = |word: &&String| {
        let id = tokenizer.encode(word, false).unwrap();
        id.len() == 1 && tokenizer.encode(&format!("^{word}^"), false).unwrap() == [caret[0], id[0], caret[0]]
    };
    let (stable, unstable): (Vec<_>, Vec<_>) = words.iter().partition(is_stable);
    assert_eq!((stable.len(), unstable.len()), (27_305, 71));
    assert!(unstable.iter().all(|word| word.starts_with(['K', 'n'])));
}

#[test]
fn qwen_chat_is_rendered_with_its_default_system_turn() {
    let Some((tokenizer, _)) = qwen() else { return };
    let content = " Procedure: a\n\nScenario: b \n\nQuestion: c? ";
    let before = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n\
                  <|im_start|>user\n";
    let user = serde_json::json!({"role": "user", "content": content});
    let chat = serde_json::json!({
        "messages": [user], "prefix": "FINAL ANSWER:",
        "spans": {"content": {"chars": [[before.len(), before.len() + content.len()]]}},
    });
    let prompt = reader(&tokenizer).prompt(&spec(chat), "t").unwrap();
    let opening = [
        151644, 8948, 198, 2610, 525, 1207, 16948, 11, 3465, 553, 54364, 14817, 13, 1446, 525, 264, 10950, 17847, 13,
        151645, 198, 151644, 872, 198,
    ];
    let closing = [151645, 198, 151644, 77091, 198, 98848, 96704, 640, 25];
    let middle = tokenizer.encode(content, false).unwrap();
    assert_eq!(prompt.tokens, [&opening[..], &middle, &closing].concat());
    assert_eq!(prompt.spans["content"], vec![opening.len()..opening.len() + middle.len()]);

    let with_system = serde_json::json!({"messages": [{"role": "system", "content": "Be brief."}, user]});
    let prompt = reader(&tokenizer).prompt(&spec(with_system), "t").unwrap();
    let text = format!(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(tokenizer.decode(&prompt.tokens, false).unwrap(), text);
    assert_eq!(prompt.tokens, tokenizer.encode(&text, false).unwrap());
}

#[test]
fn qwen_spans_hold_in_multibyte_text() {
    let Some((tokenizer, _)) = qwen() else { return };
    let text = "a 🦜 naïve e\u{301} 𝒳 日本 end";
    for (start, part) in
        [(0, "a"), (1, " "), (2, "🦜"), (4, "naïve"), (10, "e\u{301}"), (13, "𝒳"), (15, "日本"), (18, "end")]
    {
        let span = [start, start + part.chars().count()];
        let json = serde_json::json!({"text": text, "spans": {"x": {"chars": [span]}}});
        let prompt = reader(&tokenizer).prompt(&spec(json), "t").unwrap();
        let covered: Vec<i64> =
            prompt.spans["x"].iter().flat_map(|range| prompt.tokens[range.clone()].iter().copied()).collect();
        // The tokenizer normalises to NFC. A token may hold a space and half of the character after it.
        let holds = |ids: &[i64]| tokenizer.decode(ids, false).unwrap().replace('\u{e9}', "e\u{301}").contains(part);
        let n = covered.len();
        assert!(holds(&covered), "{part:?} is not all in {covered:?}");
        assert!(!holds(&covered[1..]) && !holds(&covered[..n - 1]), "{part:?} needs fewer tokens than {covered:?}");
    }
}

#[test]
fn qwen_trials_are_read_fast_and_their_targets_checked() {
    let Some((tokenizer, _)) = qwen() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trials.jsonl");
    let words = ["la", "li", "te", "to", "hi", "ha", "ABOUT", "ABLE", "ABS", "AC"];
    let mut lines = String::new();
    for n in 0..10_000 {
        let (a, b) = (words[n % 10], words[(n / 10 + n + 1) % 10]);
        let (b, shots) = if a == b { ("zone", n / 100) } else { (b, n / 100) };
        let examples: String = (0..10).map(|i| format!("x{}^y{i}^x{}\\n", shots + i, shots + i)).collect();
        lines += &format!(
            "{{\"base\":{{\"text\":\"{examples}{a}^{b}^\"}},\"source\":{{\"text\":\"{examples}{b}^{a}^\"}},\
             \"target\":{{\"correct\":\"{a}\",\"incorrect\":\"{b}\"}}}}\n"
        );
    }
    lines += r#"{"base":{"text":"FINAL ANSWER:"},"target":{"correct":" compliant","incorrect":" non-compliant"}}"#;
    std::fs::write(&path, lines).unwrap();
    let start = Instant::now();
    let file = TrialFile::read(&path, &reader(&tokenizer), TrialOptions::default()).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!((file.trials.len(), file.bad_lines.len()), (10_000, 1));
    assert_eq!(
        file.bad_lines[0].error.to_string(),
        format!(
            "{}:10001: target.incorrect: \" non-compliant\" is 3 tokens after the prompt: \
             \" non\" (2477), \"-com\" (11476), \"pliant\" (59852)",
            path.display()
        )
    );
    eprintln!("10,001 lines in {seconds:.2} s");
    assert!(seconds < 60.0, "reading 10,001 lines took {seconds:.1} s");
}
