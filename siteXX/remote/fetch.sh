# Says what the kept files hold now; the keys in them go through the tunnel to their owner only.
# obsdimg puts files (paths) in front.
echo "@@files"
for file in $files; do
	[ -f "$file" ] || continue
	echo "@ $file $(stat -f %Lp "$file")"
	openssl base64 <"$file"
done
echo "@@end"
