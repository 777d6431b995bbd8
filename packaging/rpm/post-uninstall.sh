systemctl daemon-reload || :
if [ "$1" -ge 1 ]; then
    # An upgrade: the new program takes over in place, and no VIP moves.
    systemctl try-reload-or-restart vipd.service || :
fi
