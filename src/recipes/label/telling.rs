//! The words that tell a cluster from the others.

use std::collections::BTreeMap;

/// The shortest word that counts, in characters.
const SHORTEST: usize = 3;

/// For each of `k` clusters its `count` most telling words: those with the highest f ln(1 + m / F), f being how often a
/// word stands in the cluster, F in all, and m the mean number of words of a cluster (class-based tf-idf, Grootendorst
/// 2022). Equal words stand by name.
pub(super) fn words(texts: &[String], of: &[usize], k: usize, count: usize) -> Vec<Vec<String>> {
    let mut in_cluster: Vec<BTreeMap<String, f64>> = vec![BTreeMap::new(); k];
    let mut in_all: BTreeMap<String, f64> = BTreeMap::new();
    let mut total = 0.0;
    for (text, &cluster) in texts.iter().zip(of) {
        let lower = text.to_lowercase();
        let words = lower.split(|c: char| !c.is_alphabetic()).filter(|w| w.chars().count() >= SHORTEST);
        for word in words {
            *in_cluster[cluster].entry(word.to_owned()).or_default() += 1.0;
            *in_all.entry(word.to_owned()).or_default() += 1.0;
            total += 1.0;
        }
    }
    let mean = total / k as f64;
    let telling = |words: BTreeMap<String, f64>| {
        let mut ranked: Vec<(f64, String)> =
            words.into_iter().map(|(word, f)| (f * (1.0 + mean / in_all[&word]).ln(), word)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        ranked.into_iter().take(count).map(|(_, word)| word).collect()
    };
    in_cluster.into_iter().map(telling).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_one_cluster_tell_more_than_words_of_all() {
        let texts = ["The heart is the heart", "the rock, the mantle", "the heart"].map(String::from);
        let words = words(&texts, &[0, 1, 0], 2, 2);
        assert_eq!(words[0][0], "heart");
        assert_eq!(words[1].len(), 2);
        assert!(words[1].contains(&"rock".to_owned()) || words[1].contains(&"mantle".to_owned()));
    }
}
