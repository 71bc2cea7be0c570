//! Small tokenizers for unit tests, built in memory. Not compiled into the library.

use std::collections::BTreeSet;

use tokenizers::decoders::fuse::Fuse;
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::whitespace::Whitespace;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::processors::sequence::Sequence;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, models::ModelWrapper};

use super::Tokenizer;
use super::template::Chat;

/// Id of `<s>` in [`byte_level`].
pub(crate) const BOS: i64 = 264;

/// One token per word, split at spaces; `<unk>` is 0 and `list` follows.
pub(crate) fn words(list: &[&str]) -> Tokenizer {
    let vocab = ["<unk>"].iter().chain(list).zip(0..).map(|(word, id)| ((*word).to_owned(), id)).collect();
    let model = WordLevel::builder().vocab(vocab).unk_token("<unk>".into()).build().unwrap();
    let mut inner = tokenizers::Tokenizer::new(ModelWrapper::WordLevel(model));
    inner.with_pre_tokenizer(Some(Whitespace {}));
    Tokenizer::new(inner, Chat::Absent)
}

/// Bytes 0..256 in the order of their letters, then ` s`, `he`, ` she`, ` h`, ` he`, `sh`, `an`, `é`, then `<s>`, which is put
/// before a text; offsets trimmed as Llama 3's tokenizer does. Its chat template writes `role:content;` per message, then `A>`.
pub(crate) fn byte_level() -> Tokenizer {
    let merges = [("Ġ", "s"), ("h", "e"), ("Ġs", "he"), ("Ġ", "h"), ("Ġ", "he"), ("s", "h"), ("a", "n"), ("Ã", "©")];
    let letters: BTreeSet<char> = ByteLevel::alphabet().into_iter().collect();
    let tokens = letters.iter().map(char::to_string).chain(merges.iter().map(|(a, b)| format!("{a}{b}")));
    let vocab = tokens.zip(0..).collect::<tokenizers::models::bpe::Vocab>();
    let merges = merges.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let model = BPE::builder().vocab_and_merges(vocab, merges).build().unwrap();
    let mut inner = tokenizers::Tokenizer::new(ModelWrapper::BPE(model));
    inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    inner.with_decoder(Some(ByteLevel::default()));
    inner.add_special_tokens(&[AddedToken::from("<s>", true)]);
    let template =
        TemplateProcessing::builder().try_single("<s> $A").unwrap().special_tokens(vec![("<s>", BOS as u32)]).build();
    let trimming = PostProcessorWrapper::ByteLevel(ByteLevel::new(false, true, true));
    inner.with_post_processor(Some(Sequence::new(vec![trimming, template.unwrap().into()])));
    let config = serde_json::json!({
        "chat_template": "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}A>",
    });
    let chat = Chat::from_files(Some(("tokenizer_config.json".as_ref(), &config)), None).unwrap();
    Tokenizer::new(inner, chat)
}

/// One token per word, `^` and newline, as the identity rules want it; `<unk>` is 0.
pub(crate) fn letters(list: &[&str]) -> Tokenizer {
    let all = ["<unk>", "^", "\n"];
    let vocab = all.iter().chain(list).zip(0..).map(|(word, id)| ((*word).to_owned(), id)).collect();
    let model = WordLevel::builder().vocab(vocab).unk_token("<unk>".into()).build().unwrap();
    let mut inner = tokenizers::Tokenizer::new(ModelWrapper::WordLevel(model));
    let pattern = SplitPattern::Regex(r"[\^\n]".into());
    inner.with_pre_tokenizer(Some(Split::new(pattern, SplitDelimiterBehavior::Isolated, false).unwrap()));
    inner.with_decoder(Some(Fuse::new()));
    Tokenizer::new(inner, Chat::Absent)
}
