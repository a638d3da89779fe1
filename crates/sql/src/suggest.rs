//! The nearest right word, for hints about typos.

/// The word of `known` that `word` most likely meant: at most one slip in words of up to five letters, two in longer
/// ones, upper and lower case alike. None where nothing is near, or where `word` itself is known.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let most = if word.chars().count() <= 5 { 1 } else { 2 };
    known
        .into_iter()
        .map(|k| (strsim::osa_distance(&word, &k.to_lowercase()), k))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance > 0)
        .map(|(_, k)| k)
}

/// `did you mean x?`, or else `one of a, b, c`.
pub fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(right) => format!("did you mean {right}?"),
        None => format!("one of {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_right_word_finds_none() {
        let words = ["SELECT", "FROM", "WHERE"];
        assert_eq!(nearest("selct", words), Some("SELECT"));
        assert_eq!(nearest("FORM", words), Some("FROM"));
        assert_eq!(nearest("where", words), None);
        assert_eq!(nearest("banana", words), None);
    }
}
