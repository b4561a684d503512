//! A set of buckets.

use std::fmt;

use lmao_events::StreamId;

/// A set of the 256 buckets.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Buckets([u64; 4]);

impl Buckets {
    /// No bucket.
    pub const NONE: Self = Self([0; 4]);
    /// Every bucket.
    pub const ALL: Self = Self([u64::MAX; 4]);

    /// Whether `bucket` is one of them.
    #[must_use]
    pub const fn contains(&self, bucket: u8) -> bool {
        self.0[(bucket >> 6) as usize] & (1 << (bucket & 63)) != 0
    }

    /// Whether `stream` lies in one of them.
    #[must_use]
    pub fn hold(&self, stream: &StreamId) -> bool {
        *self == Self::ALL || self.contains(stream.bucket())
    }

    /// Adds a bucket.
    pub const fn insert(&mut self, bucket: u8) {
        self.0[(bucket >> 6) as usize] |= 1 << (bucket & 63);
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(std::array::from_fn(|n| self.0[n] & !other.0[n]))
    }

    /// In ascending order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(move |bucket| self.contains(*bucket))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|part| part.count_ones() as usize).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }
}

impl FromIterator<u8> for Buckets {
    fn from_iter<I: IntoIterator<Item = u8>>(buckets: I) -> Self {
        let mut set = Self::NONE;
        buckets.into_iter().for_each(|bucket| set.insert(bucket));
        set
    }
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.write_str("all"),
            some => f.debug_set().entries(some.iter()).finish(),
        }
    }
}
