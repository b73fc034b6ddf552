//! The canary: a video of the system's own, by which it measures itself end to end.
//!
//! Gateways post interactions and comments to it ([`ID`]) and look when they arrive where viewers would see them. It is
//! counted and its comments are numbered as any other video's, so that what is measured is the way that all events take.
//! It is on no board, its comments are published and not archived, and the front doors refuse its id: nobody sees it who
//! does not ask for it by name, and nothing of it grows with time but its counts.

use crate::{Invalid, UserId, VideoId};

/// The video's id, and the id of the user who owns it and posts to it.
pub const ID: &str = "liverank:canary";

/// The video.
pub fn video() -> VideoId {
    VideoId::parse(ID).expect("the canary's id is an identifier")
}

/// Its owner.
pub fn user() -> UserId {
    UserId::parse(ID).expect("the canary's id is an identifier")
}

/// Whether it is this video.
pub fn is(video: &VideoId) -> bool {
    video.as_str() == ID
}

/// Accepts the id of a video that somebody outside names, or says what is wrong with `field`.
///
/// # Errors
/// As [`VideoId::parse_field`], and for the canary's id: a stranger could make the system look better or worse than it is.
pub fn named_outside(field: &'static str, text: &str) -> Result<VideoId, Invalid> {
    let video = VideoId::parse_field(field, text)?;
    refuse(field, &video)?;
    Ok(video)
}

/// Refuses the canary's id in `field`.
///
/// # Errors
/// That it is the system's own.
pub fn refuse(field: &'static str, video: &VideoId) -> Result<(), Invalid> {
    if is(video) {
        return Err(Invalid::new(
            field,
            format!("must not be {ID}: the system measures itself by that video"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_cannot_name_it() {
        assert!(is(&video()));
        assert_eq!(named_outside("videoid", "cats").unwrap().as_str(), "cats");
        assert_eq!(named_outside("videoid", ID).unwrap_err().field, "videoid");
        assert_eq!(named_outside("videoid", "").unwrap_err().field, "videoid");
    }
}
