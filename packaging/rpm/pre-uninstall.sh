if [ "$1" -eq 0 ]; then
    systemctl --no-reload disable --now vipd.service || :
    # Addresses that the daemon could not take off its interfaces go before the programs that fence them.
    vipd clean || :
fi
