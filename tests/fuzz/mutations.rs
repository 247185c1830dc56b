//! The seeds, and the ways in which they are damaged: bits, cuts, lines, words, numbers, splices.
//!
//! Not here: what must hold for the result.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

/// Words that a parser may trip over, in any column.
const ODD: [&[u8]; 40] = [
    b"",
    b"-",
    b"0",
    b"-1",
    b"+5",
    b"5460-0",
    b"0-16383",
    b"16383-16384",
    b"65535",
    b"65536",
    b"0-65535",
    b"18446744073709551615",
    b"18446744073709551616",
    b"99999999999999999999999999999999999999999999",
    b"-170141183460469231731687303715884105729",
    b"1e3",
    b"NaN",
    b"[",
    b"[]",
    b"[93->-",
    b"[93-<-0123456789abcdef0123456789abcdef01234567]",
    b"myself",
    b"myself,master",
    b"slave,fail?,noaddr,handshake",
    b"connected",
    b"vars",
    b"currentEpoch",
    b":0@0",
    b"::1:6379@16379",
    b"[::1]:6379@16379",
    b"10.0.0.1:6379@16379,,tls-port=0,shard-id=x",
    b"10.0.0.1:65536@70000",
    b"\0\0\0\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    "\u{a0}\u{2028}é".as_bytes(),
    b"#",
    b"{\"a\":[[[[[[",
    b"db0:keys=99999999999999999999",
    b"0123456789abcdef0123456789abcdef01234567",
];

/// A damaged input, shown as text where a check fails.
#[derive(Clone)]
pub(crate) struct Damaged(pub(crate) Vec<u8>);

impl std::fmt::Debug for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// One damage.
#[derive(Debug, Clone)]
pub(crate) enum Mutation {
    FlipBit(Index, u8),
    Cut(Index),
    Drop(Index, Index),
    Insert(Index, Vec<u8>),
    InsertOdd(Index, usize),
    Repeat(Index, Index, u8),
    DropLine(Index),
    DoubleLine(Index, u8),
    SwapLines(Index, Index),
    SwapWords(Index, Index, Index),
    SetWord(Index, Index, usize),
    /// What follows comes from another seed: a file overwritten in place and not to its end.
    Splice(Index, Index),
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        (at(), 0u8..8).prop_map(|(a, bit)| Mutation::FlipBit(a, bit)),
        at().prop_map(Mutation::Cut),
        (at(), at()).prop_map(|(a, b)| Mutation::Drop(a, b)),
        (at(), prop::collection::vec(any::<u8>(), 0..6)).prop_map(|(a, b)| Mutation::Insert(a, b)),
        (at(), 0..ODD.len()).prop_map(|(a, odd)| Mutation::InsertOdd(a, odd)),
        (at(), at(), 1u8..20).prop_map(|(a, b, times)| Mutation::Repeat(a, b, times)),
        at().prop_map(Mutation::DropLine),
        (at(), 1u8..4).prop_map(|(a, times)| Mutation::DoubleLine(a, times)),
        (at(), at()).prop_map(|(a, b)| Mutation::SwapLines(a, b)),
        (at(), at(), at()).prop_map(|(line, a, b)| Mutation::SwapWords(line, a, b)),
        (at(), at(), 0..ODD.len()).prop_map(|(line, word, odd)| Mutation::SetWord(line, word, odd)),
        (at(), at()).prop_map(|(a, b)| Mutation::Splice(a, b)),
    ]
}

/// One of the seeds, damaged none to five times.
pub(crate) fn damaged(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Damaged> {
    let mutations = prop::collection::vec(any_mutation(), 0..6);
    (any::<Index>(), mutations).prop_map(move |(seed, mutations)| {
        let mut bytes = seed.get(&seeds).clone();
        for mutation in &mutations {
            bytes = apply(bytes, mutation, &seeds);
        }
        Damaged(bytes)
    })
}

fn apply(mut bytes: Vec<u8>, mutation: &Mutation, seeds: &[Vec<u8>]) -> Vec<u8> {
    let at = |index: &Index| index.index(bytes.len() + 1);
    match mutation {
        Mutation::FlipBit(index, bit) => {
            let at = at(index);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        Mutation::Cut(index) => bytes.truncate(at(index)),
        Mutation::Drop(a, b) => {
            let (a, b) = ordered(at(a), at(b));
            bytes.drain(a..b);
        }
        Mutation::Insert(index, new) => {
            let at = at(index);
            bytes.splice(at..at, new.iter().copied());
        }
        Mutation::InsertOdd(index, odd) => {
            let at = at(index);
            bytes.splice(at..at, ODD[*odd].iter().copied());
        }
        Mutation::Repeat(a, b, times) => {
            let (a, b) = ordered(at(a), at(b));
            let part = bytes[a..b.min(a + 2000)].repeat(usize::from(*times));
            bytes.splice(a..a, part);
        }
        Mutation::DropLine(index) => {
            let mut lines = lines(&bytes);
            lines.remove(index.index(lines.len()));
            bytes = lines.concat();
        }
        Mutation::DoubleLine(index, times) => {
            let mut lines = lines(&bytes);
            let at = index.index(lines.len());
            let line = lines[at].repeat(usize::from(*times) + 1);
            lines[at] = &line;
            bytes = lines.concat();
        }
        Mutation::SwapLines(a, b) => {
            let mut lines = lines(&bytes);
            let count = lines.len();
            lines.swap(a.index(count), b.index(count));
            bytes = lines.concat();
        }
        Mutation::SwapWords(line, a, b) => {
            return with_words(&bytes, line, |words| {
                let count = words.len();
                words.swap(a.index(count), b.index(count));
            });
        }
        Mutation::SetWord(line, word, odd) => {
            return with_words(&bytes, line, |words| {
                let count = words.len();
                words[word.index(count)] = ODD[*odd];
            });
        }
        Mutation::Splice(index, other) => {
            let at = at(index);
            let other = other.get(seeds);
            bytes.truncate(at);
            bytes.extend_from_slice(other.get(at..).unwrap_or_default());
        }
    }
    bytes
}

fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

/// Each with its line break; at least one.
fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .chain(bytes.is_empty().then_some(&[][..]))
        .collect()
}

fn with_words(bytes: &[u8], line: &Index, change: impl FnOnce(&mut Vec<&[u8]>)) -> Vec<u8> {
    let mut lines = lines(bytes);
    let at = line.index(lines.len());
    let mut words: Vec<&[u8]> = lines[at].split(|byte| *byte == b' ').collect();
    change(&mut words);
    let changed = words.join(&b' ');
    lines[at] = &changed;
    lines.concat()
}

/// Every file below `tests/corpus`, whatever its name, and those of `tests/fuzz/seeds` whose name has
/// one of these words in it.
pub(crate) fn seeds(words: &[&str]) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let own = root.join("fuzz/seeds");
    let mut folders = vec![own.clone(), root.join("corpus")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if folder != own || words.iter().any(|word| name.contains(word)) {
                found.push((std::fs::read(&path).unwrap(), path));
            }
        }
    }
    found.sort_by(|(_, a), (_, b)| a.cmp(b));
    assert!(!found.is_empty(), "no seeds for {words:?}");
    found.into_iter().map(|(bytes, _)| bytes).collect()
}
