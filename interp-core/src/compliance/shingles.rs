//! Which text of one list is nearly one of another? Jaccard similarity of word 5-grams, without comparing all with all.

use std::collections::HashMap;

/// Words in a shingle. A shorter text is one shingle.
const WORDS: usize = 5;

/// Two texts are near from this similarity on, as a fraction: 4/5.
const NEAR: (usize, usize) = (4, 5);

/// For every text of `others` the most similar of `texts`, with the similarity, if that is near; the first of equals. Words are
/// what white space tells apart. A text without words is near nothing.
///
/// Two sets that are near share at least ⌈4/5 of either⌉ shingles, so they share one of the rarest n − ⌈4n/5⌉ + 1 of each
/// (Chaudhuri et al., ICDE 2006): only those are indexed and looked up, and only what they find is compared.
pub fn nearest(texts: &[String], others: &[String]) -> Vec<Option<(usize, f64)>> {
    let mut shingles = Shingles::default();
    let (mut texts, mut others) = (shingles.sets(texts), shingles.sets(others));
    let mut frequency = vec![0usize; shingles.ids.len()];
    texts.iter().flatten().for_each(|&id| frequency[id] += 1);
    texts.iter_mut().chain(&mut others).for_each(|set| set.sort_unstable_by_key(|&id| (frequency[id], id)));

    let mut having: HashMap<usize, Vec<usize>> = HashMap::new();
    for (place, set) in texts.iter().enumerate() {
        rarest(set).iter().for_each(|&id| having.entry(id).or_default().push(place));
    }
    // Of comparison, so that ids themselves are in order.
    texts.iter_mut().for_each(|set| set.sort_unstable());
    let find = |set: &Vec<usize>| {
        let mut candidates: Vec<usize> =
            rarest(set).iter().filter_map(|id| having.get(id)).flatten().copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        let mut sorted = set.clone();
        sorted.sort_unstable();
        let mut best: Option<(usize, f64)> = None;
        for place in candidates {
            let similarity = near(&texts[place], &sorted);
            if let Some(similarity) = similarity.filter(|found| best.is_none_or(|(_, best)| *found > best)) {
                best = Some((place, similarity));
            }
        }
        best
    };
    others.iter().map(find).collect()
}

/// The part of a set, sorted from rare to frequent, that is enough to find every near one.
fn rarest(set: &[usize]) -> &[usize] {
    let needed = (set.len() * NEAR.0).div_ceil(NEAR.1);
    &set[..(set.len() + 1 - needed).min(set.len())]
}

/// The similarity of two sorted sets, if they are near.
fn near(a: &[usize], b: &[usize]) -> Option<f64> {
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        common += usize::from(a[i] == b[j]);
        (i, j) = (i + usize::from(a[i] <= b[j]), j + usize::from(a[i] >= b[j]));
    }
    let all = a.len() + b.len() - common;
    (all > 0 && common * NEAR.1 >= all * NEAR.0).then(|| common as f64 / all as f64)
}

/// Numbers for words and for shingles, so that sets are numbers and equal ones are equal.
#[derive(Default)]
struct Shingles<'a> {
    words: HashMap<&'a str, usize>,
    ids: HashMap<Vec<usize>, usize>,
}

impl<'a> Shingles<'a> {
    fn sets(&mut self, texts: &'a [String]) -> Vec<Vec<usize>> {
        texts.iter().map(|text| self.set(text)).collect()
    }

    /// The shingles of a text, each once.
    fn set(&mut self, text: &'a str) -> Vec<usize> {
        let mut words = Vec::new();
        for word in text.split_whitespace() {
            let next = self.words.len();
            words.push(*self.words.entry(word).or_insert(next));
        }
        let mut set: Vec<usize> = Vec::new();
        // Of none there is none; of fewer words than a shingle has, one of all.
        for shingle in words.windows(WORDS.min(words.len()).max(1)) {
            let next = self.ids.len();
            set.push(*self.ids.entry(shingle.to_vec()).or_insert(next));
        }
        set.sort_unstable();
        set.dedup();
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair compared, from its definition.
    fn naive(texts: &[String], others: &[String]) -> Vec<Option<(usize, f64)>> {
        use std::collections::BTreeSet;
        let set = |text: &String| -> BTreeSet<Vec<String>> {
            let words: Vec<String> = text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
            match words.len() {
                0 => BTreeSet::new(),
                1..5 => BTreeSet::from([words]),
                n => (0..n - 4).map(|i| words[i..i + 5].to_vec()).collect(),
            }
        };
        let texts: Vec<_> = texts.iter().map(set).collect();
        let best = |other: &String| {
            let other = set(other);
            let similar =
                texts.iter().map(|one| one.intersection(&other).count() as f64 / one.union(&other).count() as f64);
            let near = similar.enumerate().filter(|(_, similarity)| *similarity >= 0.8);
            near.fold(None, |best: Option<(usize, f64)>, (place, found)| match best {
                Some((_, highest)) if highest >= found => best,
                _ => Some((place, found)),
            })
        };
        others.iter().map(best).collect()
    }

    #[test]
    fn by_hand() {
        let text = |words: std::ops::Range<usize>| words.map(|i| format!("w{i}")).collect::<Vec<String>>().join(" ");
        // 13 words have 9 shingles, 14 have 10: 9/10. 10 words have 6: 6/9 is not near.
        let found = nearest(&[text(0..10), text(0..14), text(0..14)], &[text(0..13), text(20..33), "".into()]);
        assert_eq!(found, [Some((1, 0.9)), None, None]);
        // Just at the edge: 8 of 10 shingles; and a short text is one shingle.
        assert_eq!(nearest(&[text(0..14)], &[text(0..12), text(0..11)]), [Some((0, 0.8)), None]);
        assert_eq!(nearest(&["a b".into(), "".into()], &["a b".into(), "a b c".into()]), [Some((0, 1.0)), None]);
        // Repeated words are one shingle.
        assert_eq!(nearest(&["a ".repeat(50)], &["a ".repeat(9)]), [Some((0, 1.0))]);
    }

    #[test]
    fn the_index_finds_what_comparing_all_finds() {
        use rand_chacha::ChaCha8Rng;
        use rand_chacha::rand_core::{RngCore, SeedableRng};
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut below = |n: u32| (rng.next_u32() % n) as usize;
        // Texts of few templates with words changed, so that many are near and many are just not.
        let templates: Vec<Vec<usize>> = (0..6).map(|_| (0..30 + below(30)).map(|_| below(12)).collect()).collect();
        let mut text = || {
            let mut words = templates[below(6)].clone();
            (0..below(4)).for_each(|_| {
                let at = below(words.len() as u32);
                words[at] = below(12);
            });
            words.truncate(words.len() - below(6));
            words.into_iter().map(|word| format!("w{word}")).collect::<Vec<String>>().join(" ")
        };
        let texts: Vec<String> = (0..150).map(|_| text()).collect();
        let others: Vec<String> = (0..150).map(|_| text()).collect();
        let found = nearest(&texts, &others);
        assert_eq!(found, naive(&texts, &others));
        let near = found.iter().filter(|one| one.is_some()).count();
        assert!((30..140).contains(&near), "{near} of 150 are near: the test has to see both");
    }
}
