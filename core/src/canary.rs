//! The canary: a video that belongs to the system itself, and by which the system measures its delays from end to end.
//!
//! Gateways post interactions and comments to the canary ([`CANARY_ID`]) and measure when they arrive at the place
//! where viewers would see them. The canary's events are counted and its comments are numbered as any other video's, so
//! that the measured path is the path of all events. The canary is on no board, its comments are published but not
//! archived, and every interface that accepts ids from outside refuses its id ([`parse_outside_id`]). Readers serve the
//! canary to gateways only, which show a pass; these viewers are connections as all others, but no load: no planner
//! counts them (ADR 055). Nothing of the canary grows with time but its counts.
//!
//! Only the canary's own user may post to the canary, and that user may post to no other video ([`check_event`]). So a
//! foreign producer's events that name the canary become dead letters.

use crate::{Invalid, UserId, VideoId};

/// The id of the canary video, and also the id of the user who owns the canary and posts to it.
pub const CANARY_ID: &str = "liverank:canary";

/// Returns the id of the canary video.
pub fn video() -> VideoId {
    VideoId::parse(CANARY_ID).expect("the canary's id is an identifier")
}

/// Returns the id of the user who owns the canary.
pub fn user() -> UserId {
    UserId::parse(CANARY_ID).expect("the canary's id is an identifier")
}

/// Whether `video` is the canary.
pub fn is_canary(video: &VideoId) -> bool {
    video.as_str() == CANARY_ID
}

/// Accepts the id of a video that comes from outside, or returns an error that names `field`.
///
/// # Errors
/// Returns the errors of [`VideoId::parse_field`], and an error for the canary's id: events of a stranger on the canary
/// could make the system look better or worse than it is.
pub fn parse_outside_id(field: &'static str, text: &str) -> Result<VideoId, Invalid> {
    let video = VideoId::parse_field(field, text)?;
    refuse_canary_video(field, &video)?;
    Ok(video)
}

/// Refuses the canary's id in `field`.
///
/// # Errors
/// Returns an error for the canary's id, because that video belongs to the system itself.
pub fn refuse_canary_video(field: &'static str, video: &VideoId) -> Result<(), Invalid> {
    if is_canary(video) {
        return Err(Invalid::new(
            field,
            format!("must not be {CANARY_ID}: the system measures itself by that video"),
        ));
    }
    Ok(())
}

/// Refuses an event that combines the canary video with another user, or the canary's user with another video.
///
/// # Errors
/// The error names the wrong field.
pub fn check_event(video: &VideoId, user: &UserId, owner: Option<&UserId>) -> Result<(), Invalid> {
    let is_its_user = |user: &UserId| user.as_str() == CANARY_ID;
    match is_canary(video) {
        true if is_its_user(user) && owner.is_none_or(is_its_user) => Ok(()),
        true => refuse_canary_video("video_id", video),
        false => {
            refuse_canary_user("user_id", user.as_str())?;
            owner.map_or(Ok(()), |owner| refuse_canary_user("owner_id", owner.as_str()))
        }
    }
}

/// Refuses the id of the canary's user in `field`.
///
/// # Errors
/// Returns an error for the id of the canary's user, because that user is the system itself.
pub fn refuse_canary_user(field: &'static str, user: &str) -> Result<(), Invalid> {
    if user == CANARY_ID {
        return Err(Invalid::new(field, format!("must not be {CANARY_ID}: that user is the system itself")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canary_events_name_the_canary_user_and_no_other_video() {
        let checked = |video: &str, name: &str, owner: Option<&str>| {
            let owner = owner.map(|owner| UserId::parse(owner).unwrap());
            let (video, user) = (VideoId::parse(video).unwrap(), UserId::parse(name).unwrap());
            check_event(&video, &user, owner.as_ref()).map_err(|refusal| refusal.field)
        };
        assert_eq!(checked("v", "u", Some("o")), Ok(()));
        assert_eq!(
            [checked(CANARY_ID, CANARY_ID, None), checked(CANARY_ID, CANARY_ID, Some(CANARY_ID))],
            [Ok(()); 2]
        );
        assert_eq!(
            [checked(CANARY_ID, "u", None), checked(CANARY_ID, CANARY_ID, Some("o"))],
            [Err("video_id"); 2]
        );
        assert_eq!(checked("v", CANARY_ID, None), Err("user_id"));
        assert_eq!(checked("v", "u", Some(CANARY_ID)), Err("owner_id"));
    }

    #[test]
    fn outside_input_cannot_name_the_canary() {
        assert!(is_canary(&video()));
        assert_eq!(parse_outside_id("videoid", "cats").unwrap().as_str(), "cats");
        assert_eq!(parse_outside_id("videoid", CANARY_ID).unwrap_err().field, "videoid");
        assert_eq!(parse_outside_id("videoid", "").unwrap_err().field, "videoid");
    }
}
