//! Neighbours: which candidates are like each other, by their vectors.
//!
//! All pairs of some hundred candidates are compared exactly; that is a millisecond and needs no structure.

/// Likeness of all pairs of candidates, by cosine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Likeness {
    candidates: usize,
    /// `[candidates, candidates]`; NaN where one of the two has no vector.
    cosines: Vec<f32>,
}

impl Likeness {
    /// Of vectors of length 1, or of any length where dot products are wanted; a candidate may have none.
    pub(super) fn of(vectors: &[Option<&[f32]>]) -> Self {
        let candidates = vectors.len();
        let mut cosines = vec![f32::NAN; candidates * candidates];
        for (i, one) in vectors.iter().enumerate() {
            let Some(one) = one else { continue };
            for (j, other) in vectors.iter().enumerate().skip(i) {
                let Some(other) = other.filter(|other| other.len() == one.len()) else { continue };
                let cosine = dot(one, other);
                cosines[i * candidates + j] = cosine;
                cosines[j * candidates + i] = cosine;
            }
        }
        Self { candidates, cosines }
    }

    /// With what `other` knows of pairs that this one knows nothing of.
    pub(super) fn or(mut self, other: &Self) -> Self {
        for (mine, theirs) in self.cosines.iter_mut().zip(&other.cosines) {
            if mine.is_nan() {
                *mine = *theirs;
            }
        }
        self
    }

    /// Of two candidates, where it is known.
    pub(super) fn between(&self, i: usize, j: usize) -> Option<f32> {
        self.cosines.get(i * self.candidates + j).copied().filter(|cosine| !cosine.is_nan())
    }

    /// For each candidate the `k` others that are most like it, ties by their order; fewer where fewer are known.
    pub(super) fn nearest(&self, k: usize) -> Vec<Vec<usize>> {
        (0..self.candidates)
            .map(|i| {
                let known = |j: &usize| *j != i && self.between(i, *j).is_some();
                let row = &self.cosines[i * self.candidates..];
                let nearer = |a: &usize, b: &usize| row[*b].total_cmp(&row[*a]).then(a.cmp(b));
                let mut others: Vec<usize> = (0..self.candidates).filter(known).collect();
                if others.len() > k && k > 0 {
                    others.select_nth_unstable_by(k - 1, nearer);
                }
                others.truncate(k);
                others.sort_unstable_by(nearer);
                others
            })
            .collect()
    }

    /// For each candidate how near its neighbours are on average; `None` where it has none.
    pub(super) fn density(&self, neighbours: &[Vec<usize>]) -> Vec<Option<f32>> {
        let of = |(i, neighbours): (usize, &Vec<usize>)| mean(neighbours.iter().filter_map(|j| self.between(i, *j)));
        neighbours.iter().enumerate().map(of).collect()
    }

    /// The mean of all pairs that are known.
    pub(super) fn mean(&self) -> Option<f32> {
        let pairs = (0..self.candidates).flat_map(|i| (i + 1..self.candidates).map(move |j| (i, j)));
        mean(pairs.filter_map(|(i, j)| self.between(i, j)))
    }
}

/// The mean of some numbers; none of none.
pub(super) fn mean(numbers: impl Iterator<Item = f32>) -> Option<f32> {
    let (sum, count) = numbers.fold((0.0, 0_u32), |(sum, count), number| (sum + f64::from(number), count + 1));
    #[expect(clippy::cast_possible_truncation, reason = "the mean of single precision numbers is none of double")]
    (count > 0).then(|| (sum / f64::from(count)) as f32)
}

/// The dot product of two vectors of the same length. Sixteen sums at once, so that the compiler uses wide registers.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// The vector at length 1; `None` of one that has no direction.
pub(super) fn unit(mut vector: Vec<f32>) -> Option<Vec<f32>> {
    let length = dot(&vector, &vector).sqrt();
    if !length.is_finite() || length <= 0.0 {
        return None;
    }
    // Most models give vectors of length 1; those are kept bit by bit.
    if (length - 1.0).abs() > 1e-4 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
    Some(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_product_is_that_of_every_length() {
        for length in [0_u8, 1, 15, 16, 17, 40] {
            let a: Vec<f32> = (0..length).map(f32::from).collect();
            let expected: f32 = a.iter().map(|x| x * x).sum();
            assert!((dot(&a, &a) - expected).abs() <= expected * 1e-6, "{length}");
        }
    }

    #[test]
    fn neighbours_are_those_with_vectors_ties_by_order() {
        let vectors = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]];
        let mut given: Vec<Option<&[f32]>> = vectors.iter().map(|vector| Some(&vector[..])).collect();
        assert_eq!(Likeness::of(&given).nearest(2), [vec![1, 3], vec![0, 3], vec![0, 1], vec![0, 1]]);
        given[3] = None;
        let likeness = Likeness::of(&given);
        assert_eq!(likeness.nearest(9), [vec![1, 2], vec![0, 2], vec![0, 1], vec![]]);
        assert_eq!(likeness.density(&likeness.nearest(1)), [Some(1.0), Some(1.0), Some(0.0), None]);
        let all = likeness.or(&Likeness::of(&[None, None, Some(&[1.0]), Some(&[0.5])]));
        assert_eq!((all.between(2, 3), all.between(0, 3)), (Some(0.5), None));
    }

    #[test]
    fn what_has_no_direction_is_no_vector() {
        assert_eq!(unit(vec![0.0, 0.0]), None);
        assert_eq!(unit(vec![f32::NAN, 1.0]), None);
        assert_eq!(unit(vec![3.0, 4.0]), Some(vec![0.6, 0.8]));
    }
}
