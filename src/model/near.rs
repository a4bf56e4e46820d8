//! Names near a name that nobody knows, for "did you mean".

/// Names within a small edit distance, or that contain the name, nearest first; three at most.
pub fn near(name: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let limit = (name.len() / 3).clamp(1, 4);
    let mut close: Vec<(usize, String)> = names
        .map(|n| (if n.contains(name) { 0 } else { distance(name, &n) }, n))
        .filter(|(d, _)| *d <= limit)
        .collect();
    close.sort();
    close.dedup();
    close.into_iter().take(3).map(|(_, n)| n).collect()
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested() {
        let names = || ["orders".to_owned(), "order-items".to_owned(), "users".to_owned()].into_iter();
        assert_eq!(near("ordes", names()), ["orders"]);
        assert_eq!(near("order", names()), ["order-items", "orders"]);
        assert!(near("zzz", names()).is_empty());
    }
}
