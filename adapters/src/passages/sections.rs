//! Section paths, `Guide > Install`, and what lies above one: how a filter by section is answered by looking up, not by
//! comparing with each.

/// What stands between two headings.
const BETWEEN: &[u8] = b" > ";

/// All sections that a path lies in, outermost first, itself last. A passage is in a section by
/// [`SearchFilter::allows_section`](lmao_ports::SearchFilter::allows_section) exactly if that is one of these.
pub(crate) fn enclosing(path: &str) -> impl Iterator<Item = &str> {
    let cuts = path.as_bytes().windows(BETWEEN.len()).enumerate().filter(|(_, piece)| *piece == BETWEEN);
    cuts.map(|(at, _)| &path[..at]).chain(std::iter::once(path))
}

#[cfg(test)]
mod tests {
    use lmao_ports::SearchFilter;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_path_lies_in_those_above_it() {
        assert_eq!(enclosing("A > B b > C").collect::<Vec<_>>(), ["A", "A > B b", "A > B b > C"]);
        assert_eq!(enclosing("A").collect::<Vec<_>>(), ["A"]);
        assert_eq!(enclosing("A > > B").collect::<Vec<_>>(), ["A", "A >", "A > > B"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_what_the_filter_allows(path in "[ >ä]{0,9}", wanted in "[ >ä]{0,6}") {
            let filter = SearchFilter { sections: vec![wanted.clone()], ..SearchFilter::all_of(Uuid::nil()) };
            prop_assert_eq!(enclosing(&path).any(|above| above == wanted), filter.allows_section(Some(&path)));
        }
    }
}
