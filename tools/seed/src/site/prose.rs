//! Sentences out of words: titles, texts, comments.

use super::dice::Dice;
use super::topics::Topic;
use super::words::{COMMENTS, ENDINGS, REPLIES, SENTENCES, TITLES};

/// Fills a template with words of a topic; things and doings of one sentence differ.
pub(crate) fn fill(dice: &mut Dice, topic: &Topic, template: &str) -> String {
    let [thing, other] = two(dice, topic.things);
    let [doing, another] = two(dice, topic.doings);
    let quality = *dice.pick(topic.qualities);
    let n = dice.between(2, 9).to_string();
    let words = [
        ("{t}", thing),
        ("{o}", other),
        ("{d}", doing),
        ("{e}", another),
        ("{q}", quality),
        ("{n}", n.as_str()),
    ];
    words
        .iter()
        .fold(template.to_owned(), |text, (place, word)| text.replace(place, word))
}

/// Draws two different ones.
fn two<'a>(dice: &mut Dice, words: &[&'a str]) -> [&'a str; 2] {
    let first = dice.below(words.len());
    let second = (first + dice.between(1, words.len() - 1)) % words.len();
    [words[first], words[second]]
}

pub(crate) fn title(dice: &mut Dice, topic: &Topic) -> String {
    let template = *dice.pick(TITLES);
    fill(dice, topic, template)
}

/// Writes a text: most are short, some are long.
pub(crate) fn text(dice: &mut Dice, topic: &Topic) -> String {
    let n_paragraphs = 2 + (dice.fraction().powi(3) * 10.0) as usize;
    let mut paragraphs: Vec<String> = (0..n_paragraphs).map(|_| paragraph(dice, topic)).collect();
    let ending = *dice.pick(ENDINGS);
    paragraphs.push(fill(dice, topic, ending));
    paragraphs.join("\n\n")
}

fn paragraph(dice: &mut Dice, topic: &Topic) -> String {
    let n_sentences = dice.between(3, 6);
    let first = dice.below(SENTENCES.len());
    // No sentence twice in a paragraph: the step has no common divisor with 28.
    let step = *dice.pick(&[3, 5, 9, 11, 13]);
    let sentences = (0..n_sentences).map(|i| SENTENCES[(first + i * step) % SENTENCES.len()]);
    sentences.map(|sentence| fill(dice, topic, sentence)).collect()
}

pub(crate) fn comment(dice: &mut Dice, topic: &Topic, is_reply: bool) -> String {
    let template = *dice.pick(if is_reply { REPLIES } else { COMMENTS });
    fill(dice, topic, template)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::site::topics::TOPICS;
    use crate::site::words::ABOUTS;

    #[test]
    fn no_place_is_left_empty() {
        let mut dice = Dice::new(1, "prose");
        let templates = [TITLES, SENTENCES, ENDINGS, COMMENTS, REPLIES, ABOUTS].concat();
        for topic in &TOPICS {
            for template in &templates {
                let filled = fill(&mut dice, topic, template);
                assert!(!filled.contains(['{', '}']), "{filled}");
            }
        }
    }

    #[test]
    fn a_paragraph_does_not_repeat_itself() {
        let mut dice = Dice::new(2, "prose");
        for _ in 0..500 {
            let topic = dice.pick(&TOPICS);
            let paragraph = paragraph(&mut dice, topic);
            let sentences: Vec<&str> = paragraph.split_inclusive('。').collect();
            let distinct: HashSet<_> = sentences.iter().collect();
            assert_eq!(distinct.len(), sentences.len(), "{paragraph}");
        }
    }

    #[test]
    fn texts_are_of_a_readable_length() {
        let mut dice = Dice::new(3, "prose");
        let lengths: Vec<usize> = (0..500).map(|_| text(&mut dice, &TOPICS[0]).chars().count()).collect();
        assert!(lengths.iter().all(|len| (100..4000).contains(len)));
        let average = lengths.iter().sum::<usize>() / lengths.len();
        assert!((250..1500).contains(&average), "{average}");
    }
}
