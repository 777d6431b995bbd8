systemd-sysusers vipd.conf || :
systemd-tmpfiles --create vipd.conf || :
systemctl daemon-reload || :
if [ "$1" -eq 1 ]; then
    systemctl preset vipd.service || :
fi
