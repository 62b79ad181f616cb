# This is the .profile of obsdimg's stand-in medium.  It is not OpenBSD's.
# A genuine one starts autoinstall(8) when /auto_install.conf exists.

print -r -- "This is obsdimg's stand-in medium. It is not OpenBSD and installs nothing."
