systemctl daemon-reload || :
if [ "$1" -ge 1 ]; then
    # An upgrade: the daemon drains, and its addresses are elsewhere for the second that this takes.
    systemctl try-restart vipd.service || :
fi
