//! Porter's stemmer for English (M. F. Porter, *An algorithm for suffix stripping*, 1980), with the departures that NLTK makes by
//! default, since those are what `rouge_score` runs. Words are lower-case letters and digits of ASCII.

/// Words whose stem no rule finds, as NLTK lists them.
const IRREGULAR: [(&str, &str); 14] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
];

/// More of them: they are their own stems.
const WHOLE: [&str; 2] = ["exceed", "succeed"];

const STEP_2: [(&str, &str); 21] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: [(&str, &str); 7] =
    [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

const STEP_4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
];

/// The stem of a word. Words of one or two letters are their own.
pub fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(whole, _)| *whole == word) {
        return (*stem).to_owned();
    }
    if word.len() <= 2 || WHOLE.contains(&word) {
        return word.to_owned();
    }
    let word = step_1a(word.to_owned());
    let word = step_1b(word);
    let word = step_1c(word);
    let word = step_2(word);
    let word = suffix(word, &STEP_3);
    let word = step_4(word);
    step_5(word)
}

fn is_consonant(word: &[u8], i: usize) -> bool {
    match word[i] {
        b'a' | b'e' | b'i' | b'o' | b'u' => false,
        b'y' => i == 0 || !is_consonant(word, i - 1),
        _ => true,
    }
}

/// How often a vowel is followed by a consonant.
fn measure(stem: &str) -> usize {
    let stem = stem.as_bytes();
    (1..stem.len()).filter(|&i| !is_consonant(stem, i - 1) && is_consonant(stem, i)).count()
}

fn has_vowel(stem: &str) -> bool {
    (0..stem.len()).any(|i| !is_consonant(stem.as_bytes(), i))
}

fn ends_double_consonant(word: &str) -> bool {
    let word = word.as_bytes();
    let n = word.len();
    n >= 2 && word[n - 1] == word[n - 2] && is_consonant(word, n - 1)
}

/// Consonant, vowel, consonant other than w, x and y; or just vowel and consonant.
fn ends_cvc(word: &str) -> bool {
    let (bytes, n) = (word.as_bytes(), word.len());
    let short = |i: usize| is_consonant(bytes, i);
    match n {
        0 | 1 => false,
        2 => !short(0) && short(1),
        _ => short(n - 3) && !short(n - 2) && short(n - 1) && !matches!(bytes[n - 1], b'w' | b'x' | b'y'),
    }
}

fn step_1a(word: String) -> String {
    match word.as_str() {
        w if w.ends_with("ies") && w.len() == 4 => w[..3].into(),
        w if w.ends_with("sses") || w.ends_with("ies") => w[..w.len() - 2].into(),
        w if w.ends_with("ss") => w.into(),
        w => w.strip_suffix('s').unwrap_or(w).into(),
    }
}

fn step_1b(word: String) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        return format!("{stem}{}", if word.len() == 4 { "ie" } else { "i" });
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if measure(stem) > 0 { format!("{stem}ee") } else { word };
    }
    let stem = ["ed", "ing"].into_iter().filter_map(|end| word.strip_suffix(end)).find(|stem| has_vowel(stem));
    let Some(stem) = stem else { return word };
    if ["at", "bl", "iz"].into_iter().any(|end| stem.ends_with(end)) {
        return format!("{stem}e");
    }
    if ends_double_consonant(stem) {
        return if stem.ends_with(['l', 's', 'z']) { stem.into() } else { stem[..stem.len() - 1].into() };
    }
    if measure(stem) == 1 && ends_cvc(stem) { format!("{stem}e") } else { stem.into() }
}

fn step_1c(word: String) -> String {
    match word.strip_suffix('y') {
        Some(stem) if stem.len() > 1 && is_consonant(stem.as_bytes(), stem.len() - 1) => format!("{stem}i"),
        _ => word,
    }
}

fn step_2(word: String) -> String {
    if let Some(stem) = word.strip_suffix("alli").filter(|stem| measure(stem) > 0) {
        return step_2(format!("{stem}al"));
    }
    if let Some(stem) = word.strip_suffix("logi") {
        // What is measured takes the l along.
        return if measure(&word[..word.len() - 3]) > 0 { format!("{stem}log") } else { word };
    }
    suffix(word, &STEP_2)
}

/// Replaces the first ending that fits, if something with a measure stands before it.
fn suffix(word: String, rules: &[(&str, &str)]) -> String {
    for (end, new) in rules {
        if let Some(stem) = word.strip_suffix(end) {
            return if measure(stem) > 0 { format!("{stem}{new}") } else { word };
        }
    }
    word
}

fn step_4(word: String) -> String {
    for end in STEP_4 {
        let Some(stem) = word.strip_suffix(end) else { continue };
        // `ion` is an ending behind s and t only; elsewhere no other ending fits either.
        let fits = end != "ion" || stem.ends_with(['s', 't']);
        return if fits && measure(stem) > 1 { stem.into() } else { word };
    }
    word
}

fn step_5(word: String) -> String {
    let word = match word.strip_suffix('e') {
        Some(stem) if measure(stem) > 1 || measure(stem) == 1 && !ends_cvc(stem) => stem.to_owned(),
        _ => word,
    };
    match word.strip_suffix('l') {
        Some(stem) if stem.ends_with('l') && measure(stem) > 1 => stem.to_owned(),
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_porters_paper() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("ties", "tie"),
            ("caress", "caress"),
            ("cats", "cat"),
            ("feed", "feed"),
            ("agreed", "agre"),
            ("plastered", "plaster"),
            ("motoring", "motor"),
            ("sing", "sing"),
            ("conflated", "conflat"),
            ("troubled", "troubl"),
            ("sized", "size"),
            ("hopping", "hop"),
            ("tanned", "tan"),
            ("falling", "fall"),
            ("hissing", "hiss"),
            ("fizzed", "fizz"),
            ("failing", "fail"),
            ("filing", "file"),
            ("happy", "happi"),
            ("relational", "relat"),
            ("conditional", "condit"),
            ("rational", "ration"),
            ("vietnamization", "vietnam"),
            ("operator", "oper"),
            ("hopefulness", "hope"),
            ("sensibiliti", "sensibl"),
            ("triplicate", "triplic"),
            ("formalize", "formal"),
            ("electrical", "electr"),
            ("goodness", "good"),
            ("revival", "reviv"),
            ("adjustable", "adjust"),
            ("replacement", "replac"),
            ("adoption", "adopt"),
            ("communism", "commun"),
            ("probate", "probat"),
            ("rate", "rate"),
            ("cease", "ceas"),
            ("controll", "control"),
            ("roll", "roll"),
            // Departures of NLTK.
            ("dying", "die"),
            ("died", "die"),
            ("enjoy", "enjoy"),
            ("generally", "gener"),
            ("biology", "biolog"),
            ("a1", "a1"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }
}
