//! Recall of ROUGE-1 as Google's `rouge_score` counts it with stemming: words in lower case, of letters and digits of ASCII,
//! those of more than three letters stemmed.

use std::collections::HashMap;

use super::porter::stem;

/// Share of the words of `reference` that `answer` has too, each as often as it occurs in both. 0 for a reference without words.
pub fn rouge1_recall(reference: &str, answer: &str) -> f64 {
    let wanted = words(reference);
    let mut had: HashMap<String, usize> = HashMap::new();
    words(answer).into_iter().for_each(|word| *had.entry(word).or_default() += 1);
    let found = wanted.iter().filter(|word| match had.get_mut(*word) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    });
    let found = found.count();
    if wanted.is_empty() { 0.0 } else { found as f64 / wanted.len() as f64 }
}

fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| if word.len() > 3 { stem(word) } else { word.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_count_as_often_as_both_have_them() {
        assert_eq!(rouge1_recall("the cat and the dog", "The dog!"), 0.4);
        assert_eq!(rouge1_recall("the cat and the dog", "the the the"), 0.4);
        assert_eq!(rouge1_recall("take a walk", "walking; taken, a"), 2.0 / 3.0, "walk-ing and walk are one word");
        assert_eq!(rouge1_recall("can't ride", "can t RIDE"), 1.0);
        assert_eq!((rouge1_recall("", "x"), rouge1_recall("x", "")), (0.0, 0.0));
    }
}
