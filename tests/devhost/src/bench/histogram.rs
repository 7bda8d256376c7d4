// SPDX-License-Identifier: BSD-2-Clause

//! How often each duration occurred, in steps of about three per cent.

const SUB_BITS: u32 = 5;
const SUB: u64 = 1 << SUB_BITS;
const BUCKETS: usize = ((64 - SUB_BITS as usize) + 1) << SUB_BITS;

/// Counts of values, in whatever unit they have.
#[derive(Clone)]
pub(crate) struct Histogram {
    buckets: Box<[u32; BUCKETS]>,
    count: u64,
    sum: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: Box::new([0; BUCKETS]), count: 0, sum: 0 }
    }
}

fn bucket_of(value: u64) -> usize {
    if value < SUB {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    (u64::from(shift + 1) << SUB_BITS) as usize + ((value >> shift) - SUB) as usize
}

/// The middle of a bucket.
fn middle_of(bucket: usize) -> u64 {
    let (group, sub) = ((bucket >> SUB_BITS) as u32, bucket as u64 & (SUB - 1));
    match group.checked_sub(1) {
        None => sub,
        Some(shift) => ((SUB + sub) << shift) + (1 << shift) / 2,
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, value: u64) {
        let bucket = &mut self.buckets[bucket_of(value)];
        *bucket = bucket.saturating_add(1);
        self.count += 1;
        self.sum = self.sum.wrapping_add(value);
    }

    pub(crate) fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// The value below which `part` (0 to 1) of all values are; 0 without any.
    pub(crate) fn quantile(&self, part: f64) -> u64 {
        let wanted = (self.count as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, &count) in self.buckets.iter().enumerate() {
            seen += u64::from(count);
            if seen >= wanted {
                return middle_of(bucket);
            }
        }
        0
    }

    /// How many values are below `limit`, and their mean.
    pub(crate) fn below(&self, limit: u64) -> (u64, f64) {
        let (mut count, mut sum) = (0u64, 0.0);
        for (bucket, &here) in self.buckets[..bucket_of(limit)].iter().enumerate() {
            count += u64::from(here);
            sum += f64::from(here) * middle_of(bucket) as f64;
        }
        (count, if count == 0 { 0.0 } else { sum / count as f64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_near_the_middle_of_its_bucket() {
        for value in (0..200).chain((0..58).map(|bit| (1u64 << bit) + (1 << bit) / 3)) {
            let middle = middle_of(bucket_of(value)) as f64;
            let value = value as f64;
            assert!((middle - value).abs() <= value * 0.032 + 0.5, "{value} became {middle}");
        }
        assert!(bucket_of(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_and_means() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        for value in 1..=100 {
            histogram.record(value);
        }
        histogram.record(100_000);
        let mut both = Histogram::default();
        both.add(&histogram);
        assert_eq!(both.count(), 101);
        assert!((both.mean() - (5050.0 + 100_000.0) / 101.0).abs() < 1e-9);
        assert!((49..=53).contains(&both.quantile(0.5)), "{}", both.quantile(0.5));
        assert!(both.quantile(1.0) > 95_000);
        let (count, mean) = both.below(1000);
        assert_eq!(count, 100);
        assert!((mean - 50.5).abs() < 1.5, "{mean}");
        let empty = Histogram::default();
        assert_eq!((empty.count(), empty.quantile(0.9)), (0, 0));
    }
}
