//! Screen lockers, by the names of their PAM services.

/// The guide has stacks for them in which one factor is enough: who locked the screen has logged in before.
pub(super) fn is_locker(service: &str) -> bool {
    OF_USERS.contains(&service) || OF_ROOT.contains(&service)
}

/// Whether a locker answers all that is asked with the one thing that was typed.
pub(super) fn answers_once(service: &str) -> bool {
    ["gtklock", "i3lock", "swaylock", "waylock"].contains(&service)
}

/// Whether it runs as the user, who cannot work with the sets: the broker has to.
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
