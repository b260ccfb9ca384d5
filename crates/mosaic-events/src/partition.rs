//! Which partition an event belongs to: one function of key and count, the same in every engine and for ever.
//!
//! FNV-1a with 64 bits over the key's bytes, scrambled by the last steps of SplitMix64 (FNV alone leaves the high bits of
//! short keys alike), scaled to the count by its high bits. Engines name the partition to the broker instead of letting it
//! choose: Kafka's clients differ in their defaults (murmur2, CRC32), and an event must not move when its producer is
//! replaced by one in another language. Changing this function moves keys between partitions: their order would be lost.

/// Returns the partition of `key` among `n_partitions`; zero if there are none.
pub fn partition_of(key: &str, n_partitions: u32) -> u32 {
    let scaled = (u128::from(hash(key)) * u128::from(n_partitions)) >> 64;
    scaled as u32
}

fn hash(key: &str) -> u64 {
    let fnv = key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let z = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_where_they_are() {
        let of = |key| partition_of(key, 16);
        assert_eq!([of(""), of("1"), of("2"), of("account-7"), of("ü")], [15, 4, 5, 2, 7]);
    }

    #[test]
    fn keys_spread_evenly() {
        let mut counts = [0; 8];
        for key in 0..8000 {
            counts[partition_of(&key.to_string(), 8) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (880..1120).contains(count)), "{counts:?}");
        assert_eq!(partition_of("x", 0), 0);
    }
}
