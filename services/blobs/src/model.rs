//! Which files are taken, and how their bytes begin.
//!
//! The type that a client claims decides what a browser does with the file later; so it is one of a short list, and the first
//! bytes must agree with it. SVG and HTML run scripts and are on no list. A file that is one thing to us and another to a
//! browser (a GIF that begins a page) is refused where its beginning shows it.

use std::time::Duration;

use mosaic::Error;

/// How long a URL to put a file is good for.
pub(crate) const PUT_TTL: Duration = Duration::from_secs(3600);
/// How long a URL to read a file is good for.
pub(crate) const GET_TTL: Duration = Duration::from_secs(3600);
/// An upload that is not finished by then is given up; longer than its URL is good for.
pub(crate) const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Uploads of one account that are not finished.
pub(crate) const UNFINISHED_MAX: u64 = 100;
/// Bytes that tell what a file is.
pub(crate) const HEAD_LEN: u64 = 1024;

const MIB: i64 = 1 << 20;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Avatar,
    Image,
    Video,
    Document,
}

impl Kind {
    const fn size_max(self) -> i64 {
        match self {
            Self::Avatar => 2 * MIB,
            Self::Image => 20 * MIB,
            Self::Video => 2048 * MIB,
            Self::Document => 50 * MIB,
        }
    }

    const fn types(self) -> &'static [Type] {
        match self {
            Self::Avatar | Self::Image => &[Type::Png, Type::Jpeg, Type::Gif, Type::Webp],
            Self::Video => &[Type::Mp4],
            Self::Document => &[Type::Pdf],
        }
    }
}

/// What a file can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Png,
    Jpeg,
    Gif,
    Webp,
    Mp4,
    Pdf,
}

impl Type {
    const ALL: [Self; 6] = [Self::Png, Self::Jpeg, Self::Gif, Self::Webp, Self::Mp4, Self::Pdf];

    /// Returns the type as the header spells it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
            Self::Mp4 => "video/mp4",
            Self::Pdf => "application/pdf",
        }
    }

    /// Reads what the header spells.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| name.eq_ignore_ascii_case(kind.name()))
    }

    /// Does a file of this type begin with `head`, and does nothing in there look like a page?
    pub(crate) fn begins(self, head: &[u8]) -> bool {
        let at = |offset: usize, want: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(want));
        let begins = match self {
            Self::Png => at(0, b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"),
            Self::Jpeg => at(0, b"\xff\xd8\xff"),
            Self::Gif => at(0, b"GIF87a") || at(0, b"GIF89a"),
            Self::Webp => at(0, b"RIFF") && at(8, b"WEBPVP8"),
            Self::Mp4 => at(4, b"ftyp") && BRANDS.iter().any(|brand| at(8, brand)),
            Self::Pdf => at(0, b"%PDF-1.") || at(0, b"%PDF-2."),
        };
        begins && !looks_like_a_page(head)
    }
}

/// First words of an MP4: QuickTime, AVIF and HEIC have the same shape and others.
const BRANDS: [&[u8]; 11] = [
    b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"dash", b"MSNV",
];

fn looks_like_a_page(head: &[u8]) -> bool {
    const SIGNS: [&[u8]; 6] = [b"<script", b"<html", b"<svg", b"<!doctype", b"<body", b"<iframe"];
    let head = head.to_ascii_lowercase();
    SIGNS
        .iter()
        .any(|sign| head.windows(sign.len()).any(|part| part == *sign))
}

/// Why a file is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not one of the types of its kind, or not what it claims to be.
    Type,
    /// Longer than its kind may be.
    TooLarge(i64),
    /// Longer or shorter than was said.
    OtherSize,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Type => {
                Self::invalid_argument("BLOB_TYPE_REFUSED", "files of this type are not taken").with_http_status(415)
            }
            Refusal::TooLarge(max) => {
                Self::invalid_argument("BLOB_TOO_LARGE", format!("is larger than {max} bytes")).with_http_status(413)
            }
            Refusal::OtherSize => Self::invalid_argument("BLOB_SIZE_DIFFERS", "is not as long as was said"),
        }
    }
}

/// Decides whether a file may be uploaded, by what is said of it.
pub(crate) fn accept(kind: Kind, content_type: &str, size_bytes: i64) -> Result<Type, Refusal> {
    let claimed = Type::named(content_type).filter(|claimed| kind.types().contains(claimed));
    let claimed = claimed.ok_or(Refusal::Type)?;
    if size_bytes > kind.size_max() {
        return Err(Refusal::TooLarge(kind.size_max()));
    }
    Ok(claimed)
}

/// Decides whether what was uploaded is what was said.
pub(crate) fn examine(claimed: Type, said_bytes: i64, size_bytes: u64, head: &[u8]) -> Result<(), Refusal> {
    if u64::try_from(said_bytes) != Ok(size_bytes) {
        return Err(Refusal::OtherSize);
    }
    if claimed.begins(head) {
        Ok(())
    } else {
        Err(Refusal::Type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01";
    const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0";
    const GIF: &[u8] = b"GIF89a\x01\0\x01\0";
    const WEBP: &[u8] = b"RIFF\x24\0\0\0WEBPVP8 ";
    const MP4: &[u8] = b"\0\0\0\x18ftypisom\0\0\x02\0";
    const PDF: &[u8] = b"%PDF-1.7\n";

    #[test]
    fn a_file_begins_as_its_own_type_and_no_other() {
        let files = [PNG, JPEG, GIF, WEBP, MP4, PDF];
        for (position, claimed) in Type::ALL.into_iter().enumerate() {
            for (other, head) in files.iter().enumerate() {
                assert_eq!(claimed.begins(head), position == other, "{claimed:?} {other}");
            }
            for head in [
                &b""[..],
                b"\x89PNG",
                b"<svg onload=alert(1)>",
                b"<!DOCTYPE html><script>",
                b"MZ\x90",
                b"PK\x03\x04",
                b"#!/bin/sh",
            ] {
                assert!(!claimed.begins(head), "{claimed:?} {head:?}");
            }
            // Something before what it should begin with.
            assert!(!claimed.begins(&[b" ", files[position]].concat()), "{claimed:?}");
        }
    }

    #[test]
    fn a_file_that_is_also_a_page_is_refused() {
        for (claimed, head) in Type::ALL.into_iter().zip([PNG, JPEG, GIF, WEBP, MP4, PDF]) {
            for page in [
                "<script>alert(1)</script>",
                "/*<SCRIPT src=x>",
                "<!DocType html>",
                "<svg/onload=alert(1)>",
            ] {
                assert!(!claimed.begins(&[head, page.as_bytes()].concat()), "{claimed:?} {page}");
            }
        }
        for brand in ["avif", "heic", "qt  "] {
            assert!(
                !Type::Mp4.begins(format!("\0\0\0\x18ftyp{brand}").as_bytes()),
                "{brand}"
            );
        }
    }

    #[track_caller]
    fn check(kind: Kind, content_type: &str, size_bytes: i64, want: &Result<Type, Refusal>) {
        assert_eq!(accept(kind, content_type, size_bytes), *want);
    }

    #[test]
    fn kinds_have_types_and_sizes() {
        check(Kind::Avatar, "image/png", 1, &Ok(Type::Png));
        check(Kind::Avatar, "IMAGE/PNG", 2 * MIB, &Ok(Type::Png));
        check(Kind::Avatar, "image/png", 2 * MIB + 1, &Err(Refusal::TooLarge(2 * MIB)));
        check(Kind::Video, "video/mp4", 2048 * MIB, &Ok(Type::Mp4));
        check(Kind::Document, "application/pdf", 1, &Ok(Type::Pdf));
        for content_type in [
            "image/svg+xml",
            "text/html",
            "application/xhtml+xml",
            "application/octet-stream",
            "",
            "image/png; x",
            "video/mp4",
            "application/pdf",
        ] {
            check(Kind::Image, content_type, 1, &Err(Refusal::Type));
        }
        check(Kind::Video, "image/png", 1, &Err(Refusal::Type));
        check(Kind::Document, "image/png", 1, &Err(Refusal::Type));
    }

    #[test]
    fn what_came_is_what_was_said() {
        assert_eq!(examine(Type::Png, 20, 20, PNG), Ok(()));
        assert_eq!(examine(Type::Png, 20, 21, PNG), Err(Refusal::OtherSize));
        assert_eq!(examine(Type::Png, 20, 20, GIF), Err(Refusal::Type));
    }
}
