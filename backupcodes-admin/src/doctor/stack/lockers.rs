//! Screen lockers, by the names of their PAM services.

/// The guide has stacks for them in which one factor is enough, because the user has logged in before.
pub(super) fn is_locker(service: &str) -> bool {
    OF_USERS.contains(&service) || OF_ROOT.contains(&service)
}

/// Whether a locker responds to all prompts with the same text.
pub(super) fn responds_once(service: &str) -> bool {
    ["gtklock", "i3lock", "swaylock", "waylock"].contains(&service)
}

/// Whether it runs as the user and needs the broker, because users cannot read the sets.
pub(super) fn runs_as_user(service: &str) -> bool {
    OF_USERS.contains(&service)
}

const OF_USERS: [&str; 17] = [
    "cinnamon-screensaver",
    "gnome-screensaver",
    "gtklock",
    "hyprlock",
    "i3lock",
    "kde",
    "kde-fingerprint",
    "kde-smartcard",
    "kscreenlocker",
    "kscreensaver",
    "mate-screensaver",
    "swaylock",
    "ukui-screensaver-qt",
    "waylock",
    "xfce4-screensaver",
    "xscreensaver",
    "xsecurelock",
];

/// Set-user-ID root, or locked by the display manager.
const OF_ROOT: [&str; 5] = ["light-locker", "physlock", "slock", "vlock", "xlock"];
