//! Blind fuzzing: inputs of the corpus, and random mutations of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The greatest length of an input, in bytes; longer ones are left to libFuzzer.
const MAX_BYTES: usize = 2048;
/// Pieces of input that are known to be difficult for parsers.
const AWKWARD_WORDS: [&[u8]; 40] = [
    b"\0",
    b"\r\n",
    b"\n\n",
    b"\xff",
    b"\xc3",
    b"\xe2\x80\xae",
    b"\xf0\x9f\x8e\xac",
    b"\"",
    b"\\",
    b"\\ud800",
    b"\\u0000",
    b"null",
    b"true",
    b"{",
    b"}",
    b"[[[[[[[[",
    b"{\"a\":",
    b",",
    b":",
    b"0",
    b"-0",
    b"-1",
    b"1e400",
    b"1e-400",
    b"9007199254740993",
    b"18446744073709551615",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"0.1",
    b"%",
    b"%00",
    b"%C3%BC",
    b"&",
    b"=",
    b"+",
    b"-",
    b".",
    b"access_token=",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x81\xfe",
];

/// The random generator `SplitMix64` (Steele et al., 2014), with a fixed seed: each run makes the same inputs.
struct SplitMix64(u64);

impl SplitMix64 {
    fn number_below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }

    fn random_range(&mut self, of: &[u8]) -> std::ops::Range<usize> {
        let from = self.number_below(of.len() + 1);
        from..from + self.number_below(of.len() - from + 1)
    }

    /// Returns a random input of the corpus, changed in one to seven places.
    fn mutated_input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.number_below(corpus.len())].clone();
        for _ in 0..=self.number_below(6) {
            let at = self.number_below(input.len() + 1);
            match self.number_below(7) {
                0 => {
                    if let Some(byte) = input.get_mut(at) {
                        *byte ^= 1 << self.number_below(8);
                    }
                }
                1 => {
                    drop(input.splice(
                        at..at,
                        AWKWARD_WORDS[self.number_below(AWKWARD_WORDS.len())].iter().copied(),
                    ));
                }
                2 => {
                    let range = self.random_range(&input);
                    drop(input.splice(
                        range,
                        AWKWARD_WORDS[self.number_below(AWKWARD_WORDS.len())].iter().copied(),
                    ));
                }
                3 => {
                    let range = self.random_range(&input);
                    input.drain(range);
                }
                4 => {
                    let again = input[self.random_range(&input)].to_vec();
                    drop(input.splice(at..at, again));
                }
                5 => {
                    let other = &corpus[self.number_below(corpus.len())];
                    let part = other[self.random_range(other)].to_vec();
                    drop(input.splice(at..at, part));
                }
                _ => input.insert(at, self.number_below(256) as u8),
            }
        }
        input.truncate(MAX_BYTES);
        input
    }
}

fn corpus_directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

fn read_corpus(target: &str) -> Vec<Vec<u8>> {
    let listed = std::fs::read_dir(corpus_directory(target)).expect("every target has a corpus");
    let mut files: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn run_input(target: &str, run: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(input))) {
        let found = std::env::temp_dir().join(format!("liverank-fuzz-{target}"));
        std::fs::write(&found, input).unwrap();
        eprintln!("to keep this input: cp {} {}/", found.display(), corpus_directory(target).display());
        std::panic::resume_unwind(panic);
    }
}

/// Replays the corpus and then runs mutations of it for a second, or for `LIVERANK_TEST_FUZZ_SECONDS` seconds.
pub(crate) fn try_all(target: &str, run: fn(&[u8])) {
    let corpus = read_corpus(target);
    assert!(!corpus.is_empty(), "the corpus of {target} is empty");
    for input in &corpus {
        run_input(target, run, input);
    }
    let seconds = std::env::var("LIVERANK_TEST_FUZZ_SECONDS").map_or(1, |seconds| seconds.parse().unwrap());
    let (start, mut random, mut inputs) = (Instant::now(), SplitMix64(1), 0_u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        run_input(target, run, &random.mutated_input(&corpus));
        inputs += 1;
    }
    println!("{target}: {inputs} inputs");
}
