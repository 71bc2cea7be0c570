//! V1, pathway direction: does a text say that a pathway goes up or down, and is that the direction of the ground truth?
//!
//! A claim belongs to one way of writing the pathway's name and one sentence that contains it, so a sentence counts once per
//! spelling that it matches. Up and down words are counted; a negation within the twelve characters before a word turns it
//! round. The score lies in a band: 0.8 to 1 for the right direction alone, 0.4 to 0.6 for both, 0.3 for no claim, at most
//! 0.1 for the wrong one (BioRLHF's `pathway` verifier).

use super::GroundTruth;
use super::text::{Word, apart, elided, sentences, words};

/// A sentence must have more characters than this.
const SHORTEST: usize = 10;
/// How far before a word a negation is looked for, in characters.
const WINDOW: usize = 12;

/// Beginnings of words that say up, and whole words that do.
const UP: ([&str; 9], [&str; 3]) = (
    ["upregulat", "activat", "increas", "elevat", "enhanc", "overexpress", "enrich", "stimulat", "promot"],
    ["induce", "induced", "higher"],
);
/// The same for down.
const DOWN: ([&str; 11], [&str; 2]) = (
    [
        "downregulat",
        "suppress",
        "decreas",
        "inhibit",
        "repress",
        "lower",
        "underexpress",
        "depress",
        "diminish",
        "attenuati",
        "impair",
    ],
    ["reduce", "reduced"],
);

/// Prefixes of pathway collections.
const COLLECTIONS: [&str; 4] = ["HALLMARK_", "KEGG_", "REACTOME_", "MITOCARTA_"];

/// Other spellings of pathways whose name contains the first word of the row.
const SPELLINGS: [(&str, &[&str]); 20] = [
    ("adipogenesis", &["adipogenesis", "adipogenic"]),
    ("angiogenesis", &["angiogenesis", "angiogenic"]),
    ("apoptosis", &["apoptosis", "apoptotic", "programmed cell death"]),
    ("dna repair", &["dna repair", "dna damage response"]),
    ("epithelial mesenchymal transition", &["emt", "epithelial-mesenchymal"]),
    ("fatty acid metabolism", &["fatty acid", "fat metabolism", "lipid metabolism"]),
    ("glycolysis", &["glycolysis", "glycolytic"]),
    ("hypoxia", &["hypoxia", "hypoxic"]),
    ("inflammatory response", &["inflammatory", "inflammation"]),
    ("interferon alpha response", &["ifn-alpha", "ifn-α", "interferon alpha", "ifnα"]),
    ("interferon gamma response", &["ifn-gamma", "ifn-γ", "interferon gamma", "ifnγ"]),
    ("mtorc1 signaling", &["mtor", "mtorc1"]),
    ("myogenesis", &["myogenesis", "myogenic"]),
    ("oxidative phosphorylation", &["oxphos", "oxidative phosphorylation", "ox phos"]),
    ("p53 pathway", &["p53", "tp53"]),
    ("pi3k akt mtor signaling", &["pi3k", "akt", "mtor", "pi3k/akt"]),
    ("reactive oxygen species pathway", &["ros", "reactive oxygen"]),
    ("tnfa signaling via nfkb", &["tnf-alpha", "nfkb", "nf-kb", "nf-κb", "tnfα"]),
    ("unfolded protein response", &["upr", "unfolded protein"]),
    ("wnt beta catenin signaling", &["wnt", "beta-catenin", "β-catenin"]),
];

/// What a text claims, each spelling and sentence once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Claims {
    up: usize,
    down: usize,
    ambiguous: usize,
}

/// The score of V1, 0 to 1; `None` where the ground truth names no pathway and direction.
pub fn direction(text: &str, truth: &GroundTruth, question_type: &str) -> Option<f64> {
    let (pathway, expected) = (truth.pathway.as_deref()?, truth.direction.as_deref()?);
    if let (Some(tissues), "comparison") = (&truth.tissue_directions, question_type) {
        return by_tissue(text, pathway, tissues);
    }
    let Claims { up, down, ambiguous } = claims(text, pathway);
    let (right, wrong) = match expected {
        "UP" => (up, down),
        "DOWN" => (down, up),
        _ => (0, up + down),
    };
    let share = |part: usize, whole: usize| part as f64 / whole as f64;
    Some(match (right, wrong) {
        (0, 0) => 0.3,
        (_, 0) => 0.8 + 0.2 * share(right, right + 1),
        (0, _) => 0.1 * share(ambiguous, right + wrong + ambiguous),
        _ => 0.4 + 0.2 * share(right, right + wrong),
    })
}

/// Share of the tissues that the text speaks of whose direction it has right; 0.3 if it speaks of none.
fn by_tissue(text: &str, pathway: &str, tissues: &[(String, String)]) -> Option<f64> {
    if tissues.is_empty() {
        return None;
    }
    let lower = text.to_lowercase();
    let (mut spoken_of, mut right) = (0u32, 0usize);
    for (tissue, expected) in tissues {
        let tissue = tissue.to_lowercase();
        let about: Vec<&str> = long_sentences(&lower).filter(|sentence| sentence.contains(&tissue)).collect();
        if !about.is_empty() {
            let claims = claims(&about.join(" "), pathway);
            spoken_of += 1;
            right += usize::from(match expected.as_str() {
                "UP" => claims.up > 0,
                "DOWN" => claims.down > 0,
                "AMBIGUOUS" => claims.ambiguous > 0,
                _ => false,
            });
        }
    }
    Some(if spoken_of == 0 { 0.3 } else { right as f64 / f64::from(spoken_of) })
}

/// Ways of writing a pathway's name, in lower case. A spelling may stand twice, and then counts twice.
pub fn direction_variants(pathway: &str) -> Vec<String> {
    let plain = COLLECTIONS.iter().fold(pathway.to_owned(), |name, prefix| name.replace(prefix, ""));
    let plain = plain.replace('_', " ").to_lowercase();
    let others = SPELLINGS.iter().filter(|(name, _)| plain.contains(name)).flat_map(|(_, spellings)| *spellings);
    let others: Vec<String> = others.map(|&spelling| spelling.to_owned()).collect();
    [pathway.to_lowercase(), plain.clone(), format!("{plain} pathway")].into_iter().chain(others).collect()
}

fn claims(text: &str, pathway: &str) -> Claims {
    let lower = text.to_lowercase();
    let variants: Vec<String> =
        direction_variants(pathway).into_iter().filter(|variant| lower.contains(variant.as_str())).collect();
    let mut claims = Claims::default();
    if variants.is_empty() {
        return claims;
    }
    for sentence in long_sentences(&lower) {
        let spelled = variants.iter().filter(|variant| sentence.contains(variant.as_str())).count();
        if spelled > 0 {
            let (up, down) = counts(sentence);
            match up.cmp(&down) {
                std::cmp::Ordering::Greater => claims.up += spelled,
                std::cmp::Ordering::Less => claims.down += spelled,
                std::cmp::Ordering::Equal if up > 0 => claims.ambiguous += spelled,
                std::cmp::Ordering::Equal => {}
            }
        }
    }
    claims
}

fn long_sentences(lower: &str) -> impl Iterator<Item = &str> {
    sentences(lower).filter(|sentence| sentence.chars().nth(SHORTEST).is_some())
}

/// Up and down words of a sentence in lower case, negations already turned round.
fn counts(sentence: &str) -> (usize, usize) {
    let words = words(sentence);
    let (mut up, mut down) = (0, 0);
    for (i, word) in words.iter().enumerate() {
        let is = |stems: &[&str], whole: &[&str]| {
            stems.iter().any(|stem| word.text.starts_with(stem)) || whole.contains(&word.text)
        };
        // `upstream activation` is an expression of its own; its second word counts besides.
        let upstream = word.text == "upstream"
            && words.get(i + 1).is_some_and(|next| next.text.starts_with("activat") && apart(sentence, *word, *next));
        let (says_up, says_down) = (upstream || is(&UP.0, &UP.1), is(&DOWN.0, &DOWN.1));
        if says_up || says_down {
            let up_word = says_up != negated(&sentence[..word.start]);
            *(if up_word { &mut up } else { &mut down }) += 1;
        }
    }
    (up, down)
}

/// Whether the last characters before a word hold a negation. The cut may fall inside a word: `cannot` then ends in `not`.
fn negated(before: &str) -> bool {
    let start = before.char_indices().rev().nth(WINDOW - 1).map_or(0, |(at, _)| at);
    let window = &before[start..];
    let words = words(window);
    let negates = |(i, word): (usize, &Word<'_>)| {
        let next = words.get(i + 1).copied();
        let followed = |by: &str| next.is_some_and(|next| next.text == by && apart(window, *word, next));
        match word.text {
            "not" | "no" | "without" => window[word.end..].starts_with(char::is_whitespace),
            "neither" | "isnt" | "wasnt" | "arent" => true,
            "isn" | "wasn" | "aren" => next.is_some_and(|next| elided(window, *word, next)),
            "does" | "did" => followed("not"),
            text => text.starts_with("fail") && followed("to"),
        }
    };
    words.iter().enumerate().any(negates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(direction: &str) -> GroundTruth {
        GroundTruth {
            pathway: Some("HALLMARK_HYPOXIA".into()),
            direction: Some(direction.into()),
            ..GroundTruth::default()
        }
    }

    fn score(text: &str, expected: &str) -> f64 {
        direction(text, &truth(expected), "direction").unwrap()
    }

    #[test]
    fn spellings_count_each_and_bands_hold() {
        assert_eq!(
            direction_variants("HALLMARK_HYPOXIA"),
            ["hallmark_hypoxia", "hypoxia", "hypoxia pathway", "hypoxia", "hypoxic"]
        );
        // Two spellings are `hypoxia`, one is `hypoxia pathway`.
        assert_eq!(score("The hypoxia pathway is upregulated in muscle.", "UP"), 0.8 + 0.2 * (3.0 / 4.0));
        assert_eq!(score("The hypoxia pathway is upregulated in muscle.", "DOWN"), 0.0);
        assert_eq!(score("Hypoxia is suppressed here. Hypoxia is elevated there.", "UP"), 0.4 + 0.2 * 0.5);
        assert_eq!(score("Hypoxia is both increased and reduced.", "UP"), 0.3);
        assert_eq!(score("Hypoxia is both increased and reduced. Hypoxia is lower.", "UP"), 0.1 * 0.5);
        assert_eq!(score("Nothing to say about it.", "UP"), 0.3);
        assert_eq!(score("hypoxia up", "UP"), 0.3, "ten characters are too few");
        assert_eq!(direction("hypoxia", &GroundTruth::default(), "direction"), None);
    }

    #[test]
    fn negations_turn_words_round_within_twelve_characters() {
        let said =
            ["is not", "does not get", "isn't", "isnt", "fails to be", "without any", "was neither", "cannot usually"];
        for text in said {
            assert_eq!(counts(&format!("hypoxia {text} activated")), (0, 1), "{text}");
        }
        assert_eq!(counts("hypoxia is not by any means activated"), (1, 0));
        assert_eq!(counts("hypoxia is not\u{a0}activated, not-activated"), (1, 1));
        assert_eq!(counts("an upstream activator of hypoxia"), (2, 0));
        assert_eq!(counts("positive nes, nes > 0, inactivated, induces"), (0, 0));
    }

    #[test]
    fn tissues_are_looked_up_one_by_one() {
        let tissues = [("liver", "UP"), ("eye", "DOWN"), ("thymus", "UP")];
        let tissue_directions = Some(tissues.map(|(tissue, way)| (tissue.into(), way.into())).to_vec());
        let truth = GroundTruth { tissue_directions, ..truth("UP") };
        let text = "In liver hypoxia is increased. In the eye hypoxia is increased.";
        assert_eq!(direction(text, &truth, "comparison"), Some(0.5));
        assert_eq!(direction("Neither is spoken of.", &truth, "comparison"), Some(0.3));
    }
}
